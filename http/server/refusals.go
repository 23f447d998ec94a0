package server

import (
	"context"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/dash-fleet/dash/messages"
)

// maxRefusals bounds the lines about refused requests of one kind in a second.
const maxRefusals = 50

// refusals decides which refused requests get a line in the log: so many in
// each second that a person finds his own, and so few that a flood of them
// costs nothing. Those of the server's side are counted apart from the clients'.
type refusals struct {
	bound int

	mu    sync.Mutex
	kinds [2]struct {
		second int64
		lines  int
		hidden uint64 // since the last line
	}
}

// allow says whether a refusal is logged, and how many before it were not.
func (r *refusals) allow(status int, now time.Time) (ok bool, hidden uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	k := &r.kinds[0]
	if status >= http.StatusInternalServerError {
		k = &r.kinds[1]
	}
	if s := now.Unix(); s != k.second {
		k.second, k.lines = s, 0
	}
	if k.lines >= r.bound {
		k.hidden++
		return false, 0
	}
	k.lines++
	hidden, k.hidden = k.hidden, 0
	return true, hidden
}

// logAccess tells of every request at the level debug. The route stands in place
// of the path, and the query is left out: it may hold anything.
func (c *call) logAccess(took time.Duration) {
	ctx := context.WithoutCancel(c.ctx())
	if !c.s.logger.Enabled(ctx, slog.LevelDebug) {
		return
	}
	caller := ""
	if c.principal != nil {
		caller = c.principal.ID
	}
	c.s.logger.LogAttrs(ctx, slog.LevelDebug, "request answered", slog.String("request_id", c.id), slog.String("method", c.r.Method),
		slog.String("route", c.route), slog.String("target", c.param), slog.Int("status", c.status), slog.Duration("took", took), slog.String("caller", caller))
}

// logRefusal makes the request id that an error shows lead to a line of the log.
// A defect is always logged.
func (c *call) logRefusal(e *messages.Error, status int, cause error) {
	level, what := slog.LevelInfo, "request refused"
	switch {
	case status == http.StatusInternalServerError:
		level, what = slog.LevelError, "request failed"
	case status > http.StatusInternalServerError:
		level = slog.LevelWarn
	}
	var hidden uint64
	if level < slog.LevelError {
		var ok bool
		if ok, hidden = c.s.refused.allow(status, time.Now()); !ok {
			return
		}
	}
	attrs := []slog.Attr{
		slog.String("request_id", c.id), slog.String("method", c.r.Method), slog.String("route", c.route), slog.Int("status", status),
		slog.String("code", string(e.Code)), slog.String("detail", e.Message),
	}
	if c.principal != nil {
		attrs = append(attrs, slog.String("caller", c.principal.ID))
	}
	if cause != nil {
		attrs = append(attrs, slog.Any("err", cause))
	}
	if hidden > 0 {
		attrs = append(attrs, slog.Uint64("not_logged_before", hidden))
	}
	c.s.logger.LogAttrs(context.WithoutCancel(c.ctx()), level, what, attrs...)
}
