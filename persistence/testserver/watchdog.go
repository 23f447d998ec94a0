package testserver

import (
	"errors"
	"fmt"
	"io"
	"os/exec"
	"syscall"
)

// guardScript ends a server and removes its folder once its standard input
// ends. The folder is renamed first: a start that has not yet noted its process
// id then fails instead of being missed. SIGQUIT makes PostgreSQL end all its
// processes and free its shared memory; for Redis it is no worse than SIGKILL.
// What was left of shared memory by a killed postmaster is named in line 7 of
// postmaster.pid. Processes whose parent is gone are known by the folder that
// they work in (on Linux): a stopped one does not end with its parent.
const guardScript = `
dir=$1
cat >/dev/null
mv "$dir" "$dir.end" && dir=$dir.end
kids() { cat "/proc/$1/task/$1/children" 2>/dev/null || pgrep -P "$1"; }
ended() { ! kill -0 "$1" || grep -q '^State:.Z' "/proc/$1/status"; }
if read -r name <"$dir/container"; then docker rm -f -v "$name"; fi
if read -r pid <"$dir/pid"; then
	kill -CONT "$pid" $(kids "$pid")
	kill -QUIT "$pid"
	n=0
	while [ $n -lt 50 ] && ! ended "$pid"; do n=$((n + 1)); sleep 0.1; done
	kill -KILL $(kids "$pid") "$pid"
fi
for p in /proc/[0-9]*; do
	if [ "$p/cwd" -ef "$dir" ] || [ "$p/cwd" -ef "$dir/data" ]; then kill -KILL "${p#/proc/}"; fi
done
for f in "$dir"/data/postmaster.pid; do
	id=$(sed -n '7s/.* //p' "$f") && [ -n "$id" ] && ipcrm -m "$id"
done
n=0
while [ $n -lt 20 ] && ! rm -rf "$dir"; do n=$((n + 1)); sleep 0.1; done
`

// guard is the shell beside a server. The operating system closes the pipe when
// this process dies, whatever it dies of.
type guard struct {
	cmd  *exec.Cmd
	pipe io.Closer
}

func newGuard(dir string) (*guard, error) {
	cmd := exec.Command("/bin/sh", "-c", guardScript, "sh", dir)
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // an interrupt at the terminal is not for it
	pipe, err := cmd.StdinPipe()
	if err != nil {
		return nil, fmt.Errorf("pipe to the guard of a test server: %w", err)
	}
	if err := cmd.Start(); err != nil {
		return nil, errors.Join(fmt.Errorf("start the guard of a test server: %w", err), pipe.Close())
	}
	return &guard{cmd: cmd, pipe: pipe}, nil
}

// release lets the guard clean up and waits for it.
func (g *guard) release() error {
	if err := g.pipe.Close(); err != nil {
		return fmt.Errorf("close the pipe to the guard of a test server: %w", err)
	}
	if err := g.cmd.Wait(); err != nil {
		return fmt.Errorf("clean up after a test server: %w", err)
	}
	return nil
}
