package app

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// stopTimeout bounds the stop of one part; apiStopTimeout is what requests
// under way get, so that the parts below have time left of the 10 s after which
// container managers kill.
const (
	stopTimeout    = 12 * time.Second
	apiStopTimeout = 6 * time.Second
)

// cleanups is a stack of stops. Only Start and Stop touch it.
type cleanups struct {
	stack []cleanup
}

type cleanup struct {
	name string
	stop func(context.Context) error
}

func (c *cleanups) add(name string, stop func(context.Context) error) {
	c.stack = append(c.stack, cleanup{name: name, stop: stop})
}

// background runs what goes on until the node stops, on a goroutine of its own.
func (c *cleanups) background(name string, run func(context.Context)) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		run(ctx)
	}()
	c.add(name, func(context.Context) error { cancel(); <-done; return nil })
}

// run stops everything, last started first, and returns what went wrong.
func (c *cleanups) run() error {
	var errs []error
	for len(c.stack) > 0 {
		last := c.stack[len(c.stack)-1]
		c.stack = c.stack[:len(c.stack)-1]
		ctx, cancel := context.WithTimeout(context.Background(), stopTimeout)
		if err := last.stop(ctx); err != nil {
			errs = append(errs, fmt.Errorf("stop %s: %w", last.name, err))
		}
		cancel()
	}
	return errors.Join(errs...)
}
