package gateway

import (
	"context"
	"errors"
	"time"
)

type (
	started struct {
		endpoint Endpoint
		err      error
	}
	exited  struct{ pid int }
	stopped struct{ err error }
)

// killTimeout bounds the end of a process that did not drain.
const killTimeout = 30 * time.Second

// stopProcess drains and ends the process. One that is still there when its own
// budget is over hangs and is killed.
func stopProcess(p Process, limit time.Duration) error {
	err := within(limit, p.Stop)
	if errors.Is(err, context.DeadlineExceeded) {
		if killed := within(killTimeout, p.Kill); killed != nil {
			err = errors.Join(err, killed)
		}
	}
	return err
}

func within(limit time.Duration, call func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	return call(ctx)
}
