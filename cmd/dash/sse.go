package main

import (
	"context"
	"errors"
	"time"

	"github.com/dash-fleet/dash/http/api"
	"github.com/dash-fleet/dash/messages/next"
)

// reconnects is how often in a row a stream may fail before it is given up.
const reconnects = 8

// errStop ends a stream from inside its handler, without an error.
var errStop = errors.New("stop")

// stream reads the events of one task's run and hands them over one by one until the
// handler returns errStop or another error, or ctx ends. A stream that breaks
// is opened again after the last event that had a number.
func (c *client) stream(ctx context.Context, id string, handle func(api.EventMessage) error) error {
	var last int64
	failures := 0
	for {
		progressed, err := c.streamOnce(ctx, id, &last, handle)
		var f *failure
		switch {
		case errors.Is(err, errStop):
			return nil
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case errors.As(err, &f) && f.code != exitUnavailable:
			return err
		}
		if progressed {
			failures = 0
		}
		if failures++; failures > reconnects {
			if err == nil {
				err = &failure{code: exitUnavailable, what: "the stream of " + c.base + " keeps ending", next: next.Doctor}
			}
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(min(c.pause<<failures, 5*time.Second)):
		}
	}
}

func (c *client) streamOnce(ctx context.Context, id string, last *int64, handle func(api.EventMessage) error) (progressed bool, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var opts []api.Option
	if *last > 0 {
		opts = append(opts, api.WithLastEventID(*last))
	}
	for m, err := range c.api.StreamTask(ctx, id, opts...) {
		if err != nil {
			return progressed, c.told(err)
		}
		progressed = true
		if m.Seq != nil {
			*last = *m.Seq
		}
		if err := handle(m); err != nil {
			return progressed, err
		}
	}
	return progressed, nil
}
