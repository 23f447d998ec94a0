package server

import (
	"context"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/dash-fleet/dash/http/auth"
	"github.com/dash-fleet/dash/http/ratelimit"
	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/messages/next"
)

// charge counts the request for its key and its tenant, tells the client where
// it stands (the fields RateLimit and RateLimit-Policy of the IETF draft), and
// refuses one too many. A long-poll and a stream count once.
func (c *call) charge() error {
	var policies, states []string
	err := c.s.take(c.ctx(), c.principal, func(r rate, d ratelimit.Decision) {
		policies = append(policies, fmt.Sprintf("%q;q=%d;w=60", r.of, r.perMinute))
		states = append(states, fmt.Sprintf("%q;r=%d;t=%d", r.of, d.Remaining, seconds(d.Full)))
	})
	if len(policies) > 0 {
		h := c.w.Header()
		h["Ratelimit-Policy"] = []string{strings.Join(policies, ", ")}
		h["Ratelimit"] = []string{strings.Join(states, ", ")}
	}
	return err
}

// admitWatcher counts a WebSocket that names its key in its first frame, a
// further subscribe, and each further page of the log's past.
func (s *Server) admitWatcher(ctx context.Context, p *auth.Principal) error {
	return s.take(ctx, p, func(rate, ratelimit.Decision) {})
}

// rate is a limit that a caller is under.
type rate struct {
	of        string // "key" or "tenant"
	id        string // what is counted
	perMinute int
}

// rates are the limits of a caller: its key's, and that of all keys of its
// tenant together. Ids of keys begin with their kind, so the two never meet.
func (s *Server) rates(p *auth.Principal) []rate {
	var all []rate
	if p.RateLimit > 0 {
		all = append(all, rate{of: "key", id: p.ID, perMinute: p.RateLimit})
	}
	if s.cfg.TenantRateLimit > 0 && p.Tenant != "" {
		all = append(all, rate{of: "tenant", id: "tenant:" + p.Tenant, perMinute: s.cfg.TenantRateLimit})
	}
	return all
}

// take counts a request in each of the caller's limits, the key's first: what
// one key has too many takes nothing from its tenant.
func (s *Server) take(ctx context.Context, p *auth.Principal, taken func(rate, ratelimit.Decision)) error {
	for _, r := range s.rates(p) {
		d := s.limits.Take(ctx, r.id, r.perMinute)
		taken(r, d)
		if !d.OK {
			s.metrics.limited.Inc()
			return usedUp(r, d)
		}
	}
	return nil
}

func usedUp(r rate, d ratelimit.Decision) error {
	who, step := "this key has", next.RepeatAfter
	if r.of == "tenant" {
		who, step = "the keys of this tenant have together", next.RepeatTenantAfter
	}
	return &messages.Error{
		Code: codeRateLimited, Message: fmt.Sprintf("%s used up the %d requests per minute", who, r.perMinute),
		NextStep: fmt.Sprintf(step, strconv.Itoa(max(1, seconds(d.Retry)))), RetryAfter: d.Retry,
	}
}

func seconds(d time.Duration) int { return int(math.Ceil(d.Seconds())) }
