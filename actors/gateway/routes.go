package gateway

import (
	"fmt"
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/dash-fleet/dash/actors/openclaw"
	"github.com/dash-fleet/dash/actors/session"
	"github.com/dash-fleet/dash/messages"
)

// routes finds the run that an event of the gateway is about. The actor writes
// it, the reader of the connection reads it.
type routes struct {
	text    func(task string, claim int64, text string)
	trouble func(task string, claim int64, code messages.WaitingCode, words string)
	cut     prometheus.Counter
	mu      sync.RWMutex
	runs    map[string]route
	texts   texts
}

type route struct {
	ref messages.ClaimRef
	own bool // the id is Dash's own run id, not the gateway's
}

func newRoutes(text func(string, int64, string), trouble func(string, int64, messages.WaitingCode, string), cut prometheus.Counter) *routes {
	if text == nil {
		text = func(string, int64, string) {}
	}
	if trouble == nil {
		trouble = func(string, int64, messages.WaitingCode, string) {}
	}
	return &routes{text: text, trouble: trouble, cut: cut, runs: map[string]route{}}
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
	r.texts.drop(ref)
	r.text(ref.Task, ref.Claim, "")
}

// say passes a text on. It does so under the lock, so that none follows the
// last. A gateway takes a text back before it asks its provider again: the old
// one stays until there is another. Of too many long texts the oldest are cut.
func (r *routes) say(t openclaw.RunText) {
	if t.Text == "" {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	to, ok := r.runs[t.RunID]
	if !ok {
		return
	}
	for ref, short := range r.texts.take(to.ref, t.Text) {
		r.cut.Inc()
		r.text(ref.Task, ref.Claim, short)
	}
	r.text(to.ref.Task, to.ref.Claim, t.Text)
}

// worry passes on that a run's model call failed. It does so under the lock, as say.
func (r *routes) worry(p openclaw.RunPhase) {
	words := p.Trouble()
	if words == "" {
		return
	}
	r.mu.RLock()
	defer r.mu.RUnlock()
	if to, ok := r.runs[p.RunID]; ok {
		r.trouble(to.ref.Task, to.ref.Claim, messages.WaitsProvider, words)
	}
}

// wait passes on what a run that has answered waits for.
func (r *routes) wait(m session.Attends) {
	words := fmt.Sprintf("it has answered, and %d of its sub-agents are at work", m.SubAgents)
	if m.SubAgents == 1 {
		words = "it has answered, and one of its sub-agents is at work"
	}
	r.trouble(m.Ref.Task, m.Ref.Claim, messages.WaitsSubAgents, words)
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
	inc    uint64
	send   func(any)
	// news has a place for each message that the actor has not taken yet: a
	// gateway that tells more than it can take is read more slowly.
	news chan struct{}
	done <-chan struct{} // the incarnation has ended
}

// maxNews bounds the messages of one connection that wait for the gateway actor.
const maxNews = 256

// tell sends one to the gateway actor, which takes its place back.
func (h *handler) tell(m any) {
	select {
	case h.news <- struct{}{}:
		h.send(news{m: m, place: h.news})
	case <-h.done:
	}
}

// news is a message from the reader of a connection.
type news struct {
	m     any
	place chan struct{}
}

// SubAgent tells of a sub-agent that begins or ends.
func (h *handler) SubAgent(a openclaw.SubAgent) { h.tell(childHeard{inc: h.inc, child: a}) }

// RunText passes the text so far to whoever watches the task.
func (h *handler) RunText(t openclaw.RunText) { h.routes.say(t) }

// RunPhase tells whoever asks of a provider that fails, and a session of the end
// of the gateway's own re-run; the end of Dash's own run comes as the answer to
// its request.
func (h *handler) RunPhase(p openclaw.RunPhase) {
	if !p.Terminal() {
		h.routes.worry(p)
		return
	}
	if r, ok := h.routes.find(p.RunID); ok && !r.own {
		h.tell(ended{ref: r.ref, event: session.RunEnded{Conn: h.conn, RunID: p.RunID}})
	}
}

// ended is an event for a session actor, by way of the gateway actor.
type ended struct {
	ref   messages.ClaimRef
	event session.RunEnded
}
