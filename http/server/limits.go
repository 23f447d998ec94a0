package server

import (
	"context"
	"fmt"
	"math"
	"strconv"
	"time"

	"github.com/dash-fleet/dash/http/auth"
	"github.com/dash-fleet/dash/http/ratelimit"
	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/messages/next"
)

// charge counts the request for its key, tells the client where it stands
// (the fields RateLimit and RateLimit-Policy of the IETF draft), and refuses
// one too many. A long-poll and a stream count once.
func (c *call) charge() error {
	d, err := c.s.take(c.ctx(), c.principal)
	perMinute := strconv.Itoa(c.principal.RateLimit)
	h := c.w.Header()
	h["Ratelimit-Policy"] = []string{`"key";q=` + perMinute + `;w=60`}
	h["Ratelimit"] = []string{`"key";r=` + strconv.Itoa(d.Remaining) + `;t=` + strconv.Itoa(seconds(d.Full))}
	return err
}

// admitWatcher counts a WebSocket that names its key in its first frame, a
// further subscribe, and each further page of the log's past.
func (s *Server) admitWatcher(ctx context.Context, p *auth.Principal) error {
	if p.RateLimit <= 0 {
		return nil
	}
	_, err := s.take(ctx, p)
	return err
}

func (s *Server) take(ctx context.Context, p *auth.Principal) (ratelimit.Decision, error) {
	d := s.limits.Take(ctx, p.ID, p.RateLimit)
	if d.OK {
		return d, nil
	}
	s.metrics.limited.Inc()
	return d, &messages.Error{
		Code: codeRateLimited, Message: "this key has used up its " + strconv.Itoa(p.RateLimit) + " requests per minute",
		NextStep: fmt.Sprintf(next.RepeatAfter, strconv.Itoa(max(1, seconds(d.Retry)))), RetryAfter: d.Retry,
	}
}

func seconds(d time.Duration) int { return int(math.Ceil(d.Seconds())) }
