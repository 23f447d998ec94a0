package openclawtest

import "time"

// wait is one agent.wait that is not answered yet.
type wait struct {
	l     *life
	c     *conn
	id    string
	runID string
	timer *time.Timer
}

// agentWait answers when a run has ended. A run it does not know is waited for
// like one that runs: the answer is a bare time-out.
func (c *conn) agentWait(id string, p params) (any, *rpcError) {
	g, l := c.g, c.l
	runID := p.str("runId")
	timeout := time.Duration(p.integer("timeoutMs", 30_000)) * time.Millisecond
	if r := l.runs[runID]; r != nil {
		switch r.state {
		case stateDone:
			return r.waitResult(), nil
		case stateQueued, stateLane:
			no := false
			return waitPayload{RunID: runID, Status: "pending", TimeoutPhase: "queue", ProviderStarted: &no}, nil
		}
	}
	if l.nwaits >= maxWaits {
		return nil, &rpcError{Code: "UNAVAILABLE", Message: "agent.wait unavailable: too many waiters", Retryable: true, RetryAfterMs: 1000}
	}
	w := &wait{l: l, c: c, id: id, runID: runID}
	if l.waits[runID] == nil {
		l.waits[runID] = map[*wait]struct{}{}
	}
	l.waits[runID][w] = struct{}{}
	c.waits[w] = struct{}{}
	l.nwaits++
	w.timer = g.after(l, timeout, func() { w.answer(waitPayload{RunID: runID, Status: "timeout"}) })
	return deferred()
}

// answer sends p unless the wait has gone.
func (w *wait) answer(p waitPayload) {
	if _, ok := w.c.waits[w]; !ok {
		return
	}
	w.drop()
	w.c.send(okFrame(w.id, p))
}

func (w *wait) drop() {
	w.stop()
	delete(w.c.waits, w)
	if set := w.l.waits[w.runID]; set != nil {
		delete(set, w)
		if len(set) == 0 {
			delete(w.l.waits, w.runID)
		}
	}
	w.l.nwaits--
}

func (w *wait) stop() {
	if w.timer != nil {
		w.timer.Stop()
	}
}

func (g *Gateway) wakeWaits(l *life, r *run) {
	set := l.waits[r.id]
	if len(set) == 0 {
		return
	}
	result := r.waitResult()
	for w := range set {
		w.answer(result)
	}
}
