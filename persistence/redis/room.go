package redis

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/dash-fleet/dash/messages/next"
	"github.com/dash-fleet/dash/persistence"
	"github.com/dash-fleet/dash/persistence/internal/room"
)

// The last of the server's memory is kept for the tasks that are under way:
// their claims, results and ends.
const (
	reserveLeast = 16 << 20
	reserveMost  = 1 << 30
)

// Room tells what the server's memory has left for new tasks.
func (db *DB) Room() persistence.Room { return db.room.Room() }

func (db *DB) probeRoom(ctx context.Context) (persistence.Room, error) {
	ctx, cancel := context.WithTimeout(ctx, readLimit)
	defer cancel()
	info, err := db.leases.Info(ctx, "memory").Result()
	if err != nil {
		return persistence.Room{}, unavailable(ctx, "read the server's memory", err)
	}
	return judgeRoom(info), nil
}

// judgeRoom reads INFO memory. What the server does not count against its limit
// (buffers of replicas and of the append-only file) it subtracts itself.
func judgeRoom(info string) persistence.Room {
	var used, limit, apart int64
	for line := range strings.Lines(info) {
		k, v, _ := strings.Cut(strings.TrimSpace(line), ":")
		n, _ := strconv.ParseInt(v, 10, 64) // other lines are no numbers
		switch k {
		case "used_memory":
			used = n
		case "maxmemory":
			limit = n
		case "mem_not_counted_for_evict":
			apart = n
		}
	}
	if limit <= 0 {
		return persistence.Room{Left: -1}
	}
	used -= apart
	reserve := room.Reserve(limit, reserveLeast, reserveMost)
	if left := limit - reserve - used; left > 0 {
		return persistence.Room{Left: left}
	}
	return persistence.Room{
		Why: fmt.Sprintf("Redis uses %.0f of its %.0f MiB (maxmemory), and the last %.0f are kept for the tasks that are under way",
			mebi(used), mebi(limit), mebi(reserve)),
		Next: next.RaiseMaxMemory,
	}
}

func mebi(n int64) float64 { return float64(n) / (1 << 20) }
