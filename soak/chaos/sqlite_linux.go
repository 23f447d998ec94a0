package chaos

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/dash-fleet/dash/http/api"
	"github.com/dash-fleet/dash/soak/harness"
)

// injection is a strace that changes what every fsync of a process does.
type injection struct {
	cmd  *exec.Cmd
	done chan struct{}
	err  error // of Wait, after done
}

// attachPatience bounds how long strace may take to hold every thread.
const attachPatience = 10 * time.Second

// inject attaches to a process. how is what strace does to an fsync, for
// example "error=EIO".
func (e *Env) inject(ctx context.Context, pid int, how string) (*injection, error) {
	program, err := exec.LookPath("strace")
	if err != nil {
		return nil, fmt.Errorf("infrastructure missing: strace, which makes fsync fail (install it and run this again): %w", err)
	}
	out := filepath.Join(e.Dir, "strace.out")
	cmd := exec.Command(program, "-f", "-qq", "-o", out, "-e", "trace=fsync,fdatasync", "-e", "inject=fsync,fdatasync:"+how, "-p", strconv.Itoa(pid))
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start strace: %w", err)
	}
	i := &injection{cmd: cmd, done: make(chan struct{})}
	go func() { // ends with strace
		i.err = cmd.Wait()
		close(i.done)
	}()
	for deadline := time.Now().Add(attachPatience); ; {
		if traced(pid) {
			return i, nil
		}
		select {
		case <-i.done:
			return nil, fmt.Errorf("infrastructure missing: strace cannot attach to a process: %w", errors.Join(errors.New("it ended"), i.err))
		case <-time.After(10 * time.Millisecond):
		}
		if err := ctx.Err(); err != nil || time.Now().After(deadline) {
			return nil, errors.Join(fmt.Errorf("strace did not attach within %s", attachPatience), err, i.end())
		}
	}
}

// traced reports whether every thread of a process has a tracer.
func traced(pid int) bool {
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", pid))
	if err != nil || len(files) == 0 {
		return false
	}
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err == nil && strings.Contains(string(b), "TracerPid:\t0\n") {
			return false
		}
	}
	return true
}

// end detaches; the process goes on with an fsync that works.
func (i *injection) end() error {
	_ = i.cmd.Process.Signal(syscall.SIGTERM) // only fails when it has ended
	select {
	case <-i.done: // by the signal
		return nil
	case <-time.After(attachPatience):
		return errors.Join(errors.New("strace did not detach"), i.cmd.Process.Kill())
	}
}

// breakDisk makes every fsync of a process fail until back.
func (e *Env) breakDisk(ctx context.Context, pid int) (back func() error, err error) {
	i, err := e.inject(ctx, pid, "error=EIO")
	if err != nil {
		return nil, err
	}
	return i.end, nil
}

// sqliteFsyncFails makes every fsync fail for a while; every second time the
// node is killed in that state, with commits in the page cache that were
// refused and may or may not be on the disk.
func sqliteFsyncFails(ctx context.Context, e *Env) error {
	rng := e.rng()
	return e.underLoad(ctx, harness.Config{}, 60, func(ctx context.Context, b *harness.Bench, round int) error {
		refused := b.History.Answers()[http.StatusServiceUnavailable]
		kind, kill := "disk-full", round%2 == 1
		if kill {
			kind = "dash-kill"
		}
		defer b.History.Fault(kind, "")()
		i, err := e.inject(ctx, b.Dash.PID(), "error=EIO")
		if err != nil {
			return err
		}
		err = awaitStatus(ctx, b, http.StatusServiceUnavailable, refused+1)
		if err == nil {
			err = harness.Pause(ctx, between(rng, 0, time.Second))
		}
		if kill {
			b.Dash.Kill()
		}
		if err := errors.Join(err, i.end()); err != nil {
			return err
		}
		if kill {
			if err := b.Dash.Start(ctx); err != nil {
				return err
			}
		}
		took, err := accepts(ctx, b, servesAgain)
		e.Logf("round %d: %d submits refused, killed %v, accepted again after %s", round+1,
			b.History.Answers()[http.StatusServiceUnavailable]-refused, kill, took.Round(time.Millisecond))
		return err
	})
}

const (
	slowFsync = 200 * time.Millisecond
	// slowAnswer bounds the 99th percentile of the submits meanwhile: one waits
	// for the batch under way and for its own, of an fsync each or two when the
	// log starts over; the rest is for a busy machine.
	slowAnswer = 2 * time.Second
)

// sqliteFsyncSlow makes every fsync take longer and looks at answers and health.
func sqliteFsyncSlow(ctx context.Context, e *Env) (err error) {
	b, err := e.bench(ctx, harness.Config{RunTime: 300 * time.Millisecond})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.Close()) }()
	i, err := e.inject(ctx, b.Dash.PID(), fmt.Sprintf("delay_exit=%d", slowFsync.Microseconds()))
	if err != nil {
		return err
	}
	over := b.History.Fault("fsync-slow", "")
	load := b.StartLoad(harness.LoadConfig{Name: "f", Rate: 40, SessionShare: 0.3, Sessions: 12, Seed: e.Seed})
	err = healthy(ctx, b, time.Duration(e.Rounds)*2*time.Second)
	load.Stop(patience)
	if err := errors.Join(err, i.end()); err != nil {
		return err
	}
	over()
	p99 := time.Duration(load.Latency().ValueAtQuantile(99)) * time.Microsecond
	p50 := time.Duration(load.Latency().ValueAtQuantile(50)) * time.Microsecond
	e.Logf("an fsync of %s: submits answered within %s at the median and %s at p99; by status %v", slowFsync,
		p50.Round(time.Millisecond), p99.Round(time.Millisecond), b.History.Answers())
	switch {
	case p50 < slowFsync/2:
		return fmt.Errorf("submits were answered within %s at the median, so no fsync was slow", p50)
	case p99 > slowAnswer:
		return fmt.Errorf("submits were answered within %s at p99, wanted %s", p99, slowAnswer)
	case b.History.Answers()[http.StatusServiceUnavailable] > 0:
		return errors.New("submits were refused")
	}
	return e.conclude(ctx, b)
}

// healthy wants the node to say that it takes work, all the time.
func healthy(ctx context.Context, b *harness.Bench, d time.Duration) error {
	for end := time.Now().Add(d); time.Now().Before(end); {
		h, err := b.Client.GetReady(ctx)
		if err != nil {
			return fmt.Errorf("ask for health: %w", err)
		}
		if h.Status != api.HealthStatusOk {
			return fmt.Errorf("the node says that it is %s: %v", h.Status, h.Checks)
		}
		if err := harness.Pause(ctx, 250*time.Millisecond); err != nil {
			return err
		}
	}
	return nil
}
