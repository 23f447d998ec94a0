package openclawtest

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/coder/websocket"
)

// drain is a stop that waits for runs: a SIGTERM or a restart on request.
type drain struct {
	restart bool
	down    time.Duration // restart: how long TCP is refused
	back    bool
	timer   *time.Timer
	done    chan struct{} // closed when the gateway is down
}

func (c *conn) restartPreflight(string, params) (any, *rpcError) {
	return c.g.preflight(c.l), nil
}

func (g *Gateway) preflight(l *life) map[string]any {
	n := g.busyRuns(l)
	return map[string]any{"safe": n == 0, "counts": map[string]int{"embeddedRuns": n}, "blockers": g.blockers(l)}
}

// Drain is SIGTERM: no new work, runs end (at most 315 s, scaled), then event
// `shutdown`, close 1012 and the gateway is down. It returns then, or with the
// error of ctx while the drain goes on.
func (g *Gateway) Drain(ctx context.Context) error {
	done := g.startDrain(-1)
	if done == nil {
		return nil
	}
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("drain: %w", ctx.Err())
	}
}

// startDrain begins a drain after which the gateway comes back in down, or not
// at all when down is negative. It returns nil when the gateway is down already.
func (g *Gateway) startDrain(down time.Duration) <-chan struct{} {
	g.mu.Lock()
	defer g.mu.Unlock()
	l := g.life
	if l == nil {
		return nil
	}
	if l.drain != nil {
		return l.drain.done
	}
	g.beginDrain(l, &drain{back: down >= 0, down: down})
	return l.drain.done
}

func (g *Gateway) beginDrain(l *life, d *drain) {
	d.done = make(chan struct{})
	l.drain = d
	for _, r := range l.runs {
		if r.state == stateRerun {
			r.stopTimer() // stays interrupted and is tried again by the next life
			l.open--
			delete(l.runs, r.id)
			r.sess.active = nil
		}
	}
	d.timer = g.after(l, g.scaled(315*time.Second), func() { g.goDown(l) })
	g.afterRun(l)
}

// afterRun is called whenever a run ended: the last one lets a drain finish.
func (g *Gateway) afterRun(l *life) {
	g.settle(l)
	if l.drain == nil || l.open > 0 || l.dead {
		return
	}
	// Not at once: whoever ended the last run, say by an abort, gets its answer first.
	g.after(l, 0, func() {
		if l.open == 0 {
			g.goDown(l)
		}
	})
}

// goDown says goodbye on every socket and ends the life. Callers hold g.mu.
func (g *Gateway) goDown(l *life) {
	d := l.drain
	if l.dead || d.timer == nil {
		return
	}
	d.timer.Stop()
	d.timer = nil
	payload := map[string]any{"reason": "gateway stopping"}
	if d.restart {
		payload = map[string]any{"reason": "gateway restarting", "restartExpectedMs": 1500}
	}
	head := eventHead("shutdown", payload)
	for c := range l.conns {
		if c.ready {
			c.sendEvent(head)
		}
		c.close(websocket.StatusServiceRestart, "service restart")
	}
	_ = l.ln.Close()
	g.jobs.Go(func() {
		g.awaitSockets(l)
		g.mu.Lock()
		g.end(l)
		g.mu.Unlock()
		l.finish()
		if d.back {
			if d.restart {
				g.setWarmUp(g.scaled(500 * time.Millisecond))
			}
			g.scheduleRevival(d.down)
		} else {
			g.exitWith(exitOK)
		}
		close(d.done)
	})
}

// awaitSockets gives clients the time of a close handshake.
func (g *Gateway) awaitSockets(l *life) {
	deadline := time.NewTimer(2 * time.Second)
	defer deadline.Stop()
	for {
		g.mu.Lock()
		n := len(l.conns)
		g.mu.Unlock()
		if n == 0 {
			return
		}
		select {
		case <-deadline.C:
			return
		case <-l.over:
			return
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// scheduleRevival starts the gateway again after d, as a supervisor would.
// Stop calls it off.
func (g *Gateway) scheduleRevival(d time.Duration) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.stopped {
		return
	}
	g.jobs.Go(func() {
		timer := time.NewTimer(d)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-g.quit:
			return
		}
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		if err := g.Start(ctx); err != nil && !errors.Is(err, ErrStopped) {
			g.cfg.Logger.Error("simulated gateway did not come back", "gateway", g.cfg.Name, "err", err)
		}
	})
}

// setWarmUp makes the next life answer "starting" for at least d.
func (g *Gateway) setWarmUp(d time.Duration) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.warmUp = d
}

// exitWith tells RunManaged that the process ends.
func (g *Gateway) exitWith(code int) {
	if g.exit == nil {
		return
	}
	select {
	case g.exit <- code:
	default: // one exit is enough
	}
}
