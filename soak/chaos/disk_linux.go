package chaos

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/dash-fleet/dash/soak/harness"
)

// diskFull lets Dash write to a small file system of its own. Each round fills
// it up to the part that is kept for what is under way; the last one goes on to
// the last byte.
func diskFull(ctx context.Context, e *Env) (err error) {
	data := filepath.Join(e.Dir, "small")
	if err := os.Mkdir(data, 0o700); err != nil {
		return err
	}
	if err := syscall.Mount("tmpfs", data, "tmpfs", 0, "size=64m,mode=0700"); err != nil {
		return fmt.Errorf("infrastructure missing: a small tmpfs needs root: %w", err)
	}
	defer func() { err = errors.Join(err, syscall.Unmount(data, 0)) }()
	b, err := e.bench(ctx, harness.Config{Data: data, RunTime: 300 * time.Millisecond})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.Close()) }()
	filler := filepath.Join(data, "filler")
	free := func() (int64, error) {
		var s syscall.Statfs_t
		err := syscall.Statfs(data, &s)
		return int64(s.Bavail) * int64(s.Bsize), err
	}
	store := fillable{
		fill:   func() error { return fillLeaving(filler, free, 10<<20) },
		empty:  func() error { return os.Remove(filler) },
		reason: "are kept for the tasks that are under way",
	}
	for round := range e.Rounds {
		if err := e.fullOnce(ctx, b, store, round); err != nil {
			return fmt.Errorf("round %d: %w", round+1, err)
		}
	}
	if err := e.toTheLastByte(ctx, b, filler); err != nil {
		return err
	}
	return e.conclude(ctx, b)
}

// toTheLastByte fills the disk at once, reserve and all: nothing is lost, and
// the node goes on when there is room.
func (e *Env) toTheLastByte(ctx context.Context, b *harness.Bench, filler string) error {
	pid, refused := b.Dash.PID(), b.History.Answers()[http.StatusServiceUnavailable]
	load := b.StartLoad(harness.LoadConfig{Name: "d", Rate: 40, Seed: e.Seed})
	if err := harness.Pause(ctx, time.Second); err != nil {
		return err
	}
	over := b.History.Fault("disk-full", "")
	if err := fill(filler); err != nil {
		return err
	}
	if err := awaitStatus(ctx, b, http.StatusServiceUnavailable, refused+1); err != nil {
		return err
	}
	accepted := b.History.Answers()[http.StatusAccepted]
	if err := errors.Join(harness.Pause(ctx, time.Second), os.Remove(filler)); err != nil {
		return err
	}
	over()
	at := time.Now()
	if err := awaitStatus(ctx, b, http.StatusAccepted, accepted+10); err != nil {
		return err
	}
	e.Logf("answers by status: %v; accepted again within %s of room on the disk", b.History.Answers(), time.Since(at).Round(10*time.Millisecond))
	load.Stop(patience)
	if b.Dash.PID() != pid || !b.Dash.Alive() {
		return errors.New("the node did not survive")
	}
	return nil
}

// fill writes until there is no room left.
func fill(path string) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer f.Close()
	for chunk := make([]byte, 1<<20); len(chunk) > 0; {
		if _, err := f.Write(chunk); errors.Is(err, syscall.ENOSPC) {
			chunk = chunk[:len(chunk)/2] // to the last byte
		} else if err != nil {
			return err
		}
	}
	return nil
}
