package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/dash-fleet/dash/http/api"
)

const (
	// maxEvent bounds one line of a stream: a run's snapshot holds the task,
	// whose message and text may each be a few hundred kilobytes.
	maxEvent = 16 << 20
	// quietLimit is how long a stream may say nothing at all, heartbeats
	// included, before it is opened anew.
	quietLimit = 60 * time.Second
	// reconnects is how often in a row a stream may fail before it is given up.
	reconnects = 8
)

// errStop ends a stream from inside its handler, without an error.
var errStop = errors.New("stop")

// stream reads server-sent events and hands them over one by one until the
// handler returns errStop or another error, or ctx ends. A stream that breaks
// is opened again after the last event that had a number.
func (c *client) stream(ctx context.Context, path string, handle func(api.EventMessage) error) error {
	var last string
	failures := 0
	for {
		progressed, err := c.streamOnce(ctx, path, &last, handle)
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
				err = &failure{code: exitUnavailable, what: "the stream of " + c.base + " keeps ending", next: "`dash doctor` shows what is wrong"}
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

func (c *client) streamOnce(ctx context.Context, path string, last *string, handle func(api.EventMessage) error) (progressed bool, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	r := get(path, nil)
	r.header = http.Header{"Accept": {"text/event-stream"}}
	if *last != "" {
		r.header.Set("Last-Event-ID", *last)
	}
	quiet := time.AfterFunc(quietLimit, cancel)
	defer quiet.Stop()
	resp, err := c.send(ctx, r)
	if err != nil {
		return false, err
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		raw, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
		if err != nil {
			return false, c.unreachable(err)
		}
		return false, c.refused(resp, raw)
	}
	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(make([]byte, 64<<10), maxEvent)
	var data strings.Builder
	for lines.Scan() {
		quiet.Reset(quietLimit)
		field, value, _ := strings.Cut(lines.Text(), ":")
		value = strings.TrimPrefix(value, " ")
		switch field {
		case "id":
			*last = value
		case "data":
			if data.Len() > 0 {
				data.WriteByte('\n')
			}
			data.WriteString(value)
		case "":
			if lines.Text() != "" || data.Len() == 0 {
				continue // a comment, or an event without data
			}
			var m api.EventMessage
			if err := json.Unmarshal([]byte(data.String()), &m); err != nil {
				return progressed, fmt.Errorf("an event of %s is not JSON: %w", c.base, err)
			}
			data.Reset()
			progressed = true
			if err := handle(m); err != nil {
				return progressed, err
			}
		}
	}
	if err := lines.Err(); err != nil {
		return progressed, c.unreachable(err)
	}
	return progressed, nil
}
