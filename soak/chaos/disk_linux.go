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

// fullDisk lets Dash write to a small file system of its own and fills that up.
func fullDisk(ctx context.Context, e *Env) (err error) {
	data := filepath.Join(e.Dir, "small")
	if err := os.Mkdir(data, 0o700); err != nil {
		return err
	}
	if err := syscall.Mount("tmpfs", data, "tmpfs", 0, "size=32m,mode=0700"); err != nil {
		return fmt.Errorf("infrastructure missing: a small tmpfs needs root: %w", err)
	}
	defer func() { err = errors.Join(err, syscall.Unmount(data, 0)) }()
	b, err := e.bench(ctx, harness.Config{Data: data, RunTime: 50 * time.Millisecond})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.Close()) }()
	pid := b.Dash.PID()
	load := b.StartLoad(harness.LoadConfig{Name: "d", Rate: 40, Seed: e.Seed})
	if err := pause(ctx, time.Second); err != nil {
		return err
	}
	filler := filepath.Join(data, "filler")
	over := b.History.Fault("disk-full", "")
	if err := fill(filler); err != nil {
		return err
	}
	if err := awaitStatus(ctx, b, http.StatusServiceUnavailable, 1); err != nil {
		return err
	}
	accepted := b.History.Answers()[http.StatusAccepted]
	if err := errors.Join(pause(ctx, time.Second), os.Remove(filler)); err != nil {
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
	return e.conclude(ctx, b)
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
