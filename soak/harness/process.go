package harness

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"time"
)

// process is one child in a process group of its own.
type process struct {
	cmd  *exec.Cmd
	done chan struct{}
	err  error // of Wait, after done
}

// start runs a program, with env on top of this process's environment, whose
// output is appended to logFile.
func start(logFile string, env []string, program string, args ...string) (*process, error) {
	out, err := os.OpenFile(logFile, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open log of %s: %w", program, err)
	}
	return startTo(out, env, program, args...)
}

// startTo is start with an open output, which it closes.
func startTo(out *os.File, env []string, program string, args ...string) (*process, error) {
	defer out.Close()
	cmd := exec.Command(program, args...)
	cmd.Stdout, cmd.Stderr = out, out
	if len(env) > 0 {
		cmd.Env = append(os.Environ(), env...)
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", program, err)
	}
	p := &process{cmd: cmd, done: make(chan struct{})}
	go func() { // ends with the child
		p.err = cmd.Wait()
		close(p.done)
	}()
	return p, nil
}

func (p *process) pid() int { return p.cmd.Process.Pid }

func (p *process) alive() bool {
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

// kill ends the process at once and waits for its end.
func (p *process) kill() {
	if p.alive() {
		_ = p.cmd.Process.Kill() // only fails when it has ended
	}
	<-p.done
}

// stop asks the process to end and kills it after the time.
func (p *process) stop(patience time.Duration) error {
	if !p.alive() {
		return nil
	}
	_ = p.cmd.Process.Signal(syscall.SIGTERM) // only fails when it has ended
	select {
	case <-p.done:
		return nil
	case <-time.After(patience):
		p.kill()
		return fmt.Errorf("process %d did not end within %s of SIGTERM", p.pid(), patience)
	}
}

// await asks again and again until ok is true, the process ends, or the time is over.
func await(ctx context.Context, patience time.Duration, what string, ok func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	t := time.NewTicker(20 * time.Millisecond)
	defer t.Stop()
	for {
		err := ok(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s within %s: %w", what, patience, errors.Join(ctx.Err(), err))
		case <-t.C:
		}
	}
}

// stalledPipe is the output of a process whose reader hangs: a pipe that is full
// to its last byte and that nobody reads. Closing read ends the stall.
func stalledPipe() (read, write *os.File, err error) {
	if read, write, err = os.Pipe(); err != nil {
		return nil, nil, err
	}
	// Through an opening of its own: whether a write waits is a property of the
	// opening, which the process shares.
	fd, err := syscall.Open(fmt.Sprintf("/proc/self/fd/%d", write.Fd()), syscall.O_WRONLY|syscall.O_NONBLOCK|syscall.O_CLOEXEC, 0)
	if err == nil {
		for _, chunk := range [][]byte{make([]byte, 4096), make([]byte, 1)} {
			for err = nil; err == nil; _, err = syscall.Write(fd, chunk) {
			}
		}
		_ = syscall.Close(fd)
	}
	if !errors.Is(err, syscall.EAGAIN) {
		return nil, nil, errors.Join(fmt.Errorf("fill a pipe: %w", err), read.Close(), write.Close())
	}
	return read, write, nil
}
