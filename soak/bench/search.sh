#!/usr/bin/env bash
# search.sh asynq|river URL: tries the settings of a system on a running server
# with 64 producers and prints tasks per second, best first. URL names an empty
# Redis server, or an empty database for each line with %s replaced by its number.
set -euo pipefail
bench="${BENCH:-bin/bench}"
try() { # try NAME ARGS…
	local line
	line=$(echo go | timeout 120 "$bench" "$@" --mode throughput --producers 64 --duration "${DURATION:-2s}" | tail -n 1) || line='{"tasks":0,"seconds":1}'
	sed -E 's/.*"tasks":([0-9]+).*"seconds":([0-9.]+).*/\1 \2/' <<<"$line" | awk -v what="${*:4}" '{printf "%8.0f tasks/s  %s\n", $1 / $2, what}'
}
case "$1" in
asynq)
	for servers in 1 2 4 8; do
		for concurrency in 2 16 64 256; do
			try asynq --redis-url "$2" --servers "$servers" --concurrency "$concurrency" --check 1ms --pool 200
		done
	done | tee /dev/stderr | sort -rn
	;;
river)
	for workers in 100 1000 5000; do
		for cooldown in 1ms 5ms 20ms; do
			for conns in 8 16 32 80; do
				try river --postgres-url "$2" --workers "$workers" --cooldown "$cooldown" --poll 100ms --conns "$conns"
			done
		done
	done | tee /dev/stderr | sort -rn
	;;
esac
