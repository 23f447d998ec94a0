package gateway

import (
	"sync"

	"github.com/dash-fleet/dash/actors/openclaw"
	"github.com/dash-fleet/dash/actors/session"
	"github.com/dash-fleet/dash/messages"
)

// routes finds the run that an event of the gateway is about. The actor writes
// it, the reader of the connection reads it.
type routes struct {
	text func(task string, claim int64, text string)
	mu   sync.RWMutex
	runs map[string]route
}

type route struct {
	ref messages.ClaimRef
	own bool // the id is Dash's own run id, not the gateway's
}

func newRoutes(text func(string, int64, string)) *routes {
	if text == nil {
		text = func(string, int64, string) {}
	}
	return &routes{text: text, runs: map[string]route{}}
}

func (r *routes) add(runID string, to route) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.runs[runID] = to
}

// remove ends the events of a claim and its runs; the last text of one is empty.
func (r *routes) remove(ref messages.ClaimRef, runs []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, id := range runs {
		delete(r.runs, id)
	}
	r.text(ref.Task, ref.Claim, "")
}

// say passes a text on. It does so under the lock, so that none follows the
// last.
func (r *routes) say(t openclaw.RunText) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if to, ok := r.runs[t.RunID]; ok {
		r.text(to.ref.Task, to.ref.Claim, t.Text)
	}
}

func (r *routes) find(runID string) (route, bool) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	to, ok := r.runs[runID]
	return to, ok
}

// handler gets the events of one connection on its reader. It never blocks.
type handler struct {
	openclaw.NopHandler
	routes *routes
	conn   session.Conn
	send   func(any)
}

// RunText passes the text so far to whoever watches the task.
func (h *handler) RunText(t openclaw.RunText) { h.routes.say(t) }

// RunPhase tells a session of the end of the gateway's own re-run; the end of
// Dash's own run comes as the answer to its request.
func (h *handler) RunPhase(p openclaw.RunPhase) {
	if !p.Terminal() {
		return
	}
	if r, ok := h.routes.find(p.RunID); ok && !r.own {
		h.send(ended{ref: r.ref, event: session.RunEnded{Conn: h.conn, RunID: p.RunID}})
	}
}

// ended is an event for a session actor, by way of the gateway actor.
type ended struct {
	ref   messages.ClaimRef
	event session.RunEnded
}
