package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/dash-fleet/dash/http/api"
	"github.com/dash-fleet/dash/messages/next"
)

// outages is how many times a call's time a stream may be away before it is
// given up: ten minutes, longer than a fail-over or a restart of a node takes.
const outages = 20

// tellAfter is the failure in a row after which a person is told.
const tellAfter = 3

// errStop ends a stream from inside its handler, without an error.
var errStop = errors.New("stop")

// stream reads the events of one task's run and hands them over one by one until the
// handler returns errStop or another error, or ctx ends. A stream that breaks
// is opened again after the last event that had a number.
func (c *client) stream(ctx context.Context, id string, handle func(api.EventMessage) error) error {
	var last int64
	failures := 0
	var lost time.Time // since when nothing came; zero: it is well
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
			failures, lost = 0, time.Time{}
		}
		if lost.IsZero() {
			lost = time.Now()
		}
		if failures++; failures == tellAfter {
			fmt.Fprintf(c.talk, "no node answers at the moment; task %s continues, still waiting\n", clean(id))
		}
		if time.Since(lost) > outages*c.patience {
			return &failure{code: exitUnavailable, what: fmt.Sprintf("%s did not answer for %s; task %s continues", c.addresses(), age(outages*c.patience), id),
				next: fmt.Sprintf(next.AttachAgain, id), err: err}
		}
		if f != nil && verdictOf(f.err).unreached {
			c.other(0)
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(min(c.pause<<min(failures, 10), 5*time.Second)):
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
