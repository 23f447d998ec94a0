package openclawtest

import (
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"
)

const (
	phaseAccepting = "accepting"
	phaseDraining  = "draining"
	phasePrepared  = "prepared"
)

// suspension is the state of gateway.suspend.*.
type suspension struct {
	phase   string
	id      string
	request string
	expires time.Time
	lease   *time.Timer
}

// gate refuses what a suspended or draining gateway does not take.
func (g *Gateway) gate(l *life, method string) *rpcError {
	refuse := func(why, reason, phase string) *rpcError {
		return &rpcError{Code: "UNAVAILABLE", Message: method + " unavailable during gateway " + why, Retryable: true, RetryAfterMs: 1000,
			Details: map[string]any{"method": method, "reason": reason, "phase": phase}}
	}
	if l.suspend.phase != phaseAccepting && !strings.HasPrefix(method, "gateway.suspend.") {
		return refuse("suspension", "gateway-suspending", l.suspend.phase)
	}
	if l.drain != nil && method == "agent" {
		return refuse("shutdown", "gateway-draining", phaseDraining)
	}
	return nil
}

func (c *conn) suspendPrepare(_ string, p params) (any, *rpcError) {
	g, l := c.g, c.l
	s := &l.suspend
	request := p.str("requestId")
	if s.phase == phaseAccepting {
		if l.open > 0 && !p.boolean("drain") {
			return map[string]any{"status": "busy", "retryAfterMs": 1000, "activeCount": l.open, "blockers": g.blockers(l)}, nil
		}
		s.id, s.request = uuid.NewString(), request
	} else if s.request != request {
		return nil, &rpcError{Code: "UNAVAILABLE", Message: "gateway suspension is held by another request", Retryable: true, RetryAfterMs: 1000}
	}
	g.holdLease(l)
	if s.phase == phaseAccepting {
		g.setPhase(l, "preparing")
		g.setPhase(l, phaseDraining)
	}
	g.settle(l)
	return g.suspendState(l), nil
}

// holdLease gives the suspension another 2 minutes (scaled).
func (g *Gateway) holdLease(l *life) {
	s := &l.suspend
	if s.lease != nil {
		s.lease.Stop()
	}
	d := g.scaled(2 * time.Minute)
	s.expires = time.Now().Add(d)
	id := s.id
	s.lease = g.after(l, d, func() {
		if s.id == id && s.phase != phaseAccepting {
			g.reopen(l)
		}
	})
}

func (g *Gateway) setPhase(l *life, phase string) {
	l.suspend.phase = phase
	g.emit(l, "gateway.suspension", map[string]any{"phase": phase, "suspensionId": l.suspend.id})
}

// settle turns draining into prepared when no run is left.
func (g *Gateway) settle(l *life) {
	if l.suspend.phase == phaseDraining && g.busyRuns(l) == 0 {
		g.setPhase(l, phasePrepared)
	}
}

// busyRuns are open runs but for re-runs, which a suspension holds back.
func (g *Gateway) busyRuns(l *life) int {
	n := 0
	if l.open == 0 {
		return 0
	}
	for _, r := range l.runs {
		if r.state != stateDone && r.state != stateRerun {
			n++
		}
	}
	return n
}

func (g *Gateway) suspendState(l *life) map[string]any {
	s := &l.suspend
	out := map[string]any{"suspensionId": s.id, "expiresAtMs": s.expires.UnixMilli(), "activeCount": g.busyRuns(l), "blockers": g.blockers(l), "writeCustody": []any{}}
	switch s.phase {
	case phaseAccepting:
		return map[string]any{"status": "running"}
	case phasePrepared:
		out["status"] = "ready"
	default:
		out["status"], out["retryAfterMs"] = "draining", 1000
	}
	return out
}

func (g *Gateway) blockers(l *life) []map[string]any {
	n := g.busyRuns(l)
	if n == 0 {
		return []map[string]any{}
	}
	return []map[string]any{{"kind": "embedded-run", "count": n, "message": fmt.Sprintf("%d active embedded run(s)", n)}}
}

func (g *Gateway) reopen(l *life) {
	if l.suspend.lease != nil {
		l.suspend.lease.Stop()
	}
	g.setPhase(l, phaseAccepting)
	l.suspend.id, l.suspend.request = "", ""
}

func (c *conn) suspendStatus(_ string, p params) (any, *rpcError) {
	if id := p.str("suspensionId"); id != "" && id != c.l.suspend.id {
		return map[string]any{"status": "running"}, nil
	}
	return c.g.suspendState(c.l), nil
}

func (c *conn) suspendResume(_ string, p params) (any, *rpcError) {
	l := c.l
	if l.suspend.phase == phaseAccepting || p.str("suspensionId") != l.suspend.id {
		status := "running"
		if l.suspend.phase != phaseAccepting {
			status = l.suspend.phase
		}
		return map[string]any{"ok": true, "status": status, "resumed": false}, nil
	}
	c.g.reopen(l)
	return map[string]any{"ok": true, "status": "running", "resumed": true}, nil
}
