package adaptertest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/dash-fleet/dash/actors/openclaw"
)

// patience bounds every wait for something that must come. A gateway on a
// starved machine needs tens of seconds for its first turn.
const patience = 2 * time.Minute

// bench is what a test works with: the target, a deadline and helpers that
// fail the test.
type bench struct {
	*testing.T
	Target
	ctx  context.Context
	name string
}

// sub runs a part of a test under its own name.
func (b *bench) sub(name string, f func(*bench)) {
	b.Run(name, func(t *testing.T) {
		part := *b
		part.T = t
		f(&part)
	})
}

func (b *bench) config() openclaw.Config {
	// A gateway that has just booted on a busy machine is slow to shake hands.
	return openclaw.Config{URL: b.URL, Token: b.Token, Version: "adapter-suite", DialTimeout: time.Minute, CallTimeout: time.Minute}
}

// dial connects and closes at the end of the test.
func (b *bench) dial() (*openclaw.Conn, *recorder) {
	b.Helper()
	r := &recorder{texts: map[string][]openclaw.RunText{}, chats: map[string][]openclaw.RunChat{}, ends: map[string][]openclaw.RunPhase{},
		failures: map[string][]openclaw.RunPhase{}}
	c, err := openclaw.Dial(b.ctx, b.config(), r)
	if err != nil {
		b.Fatalf("dial: %v", err)
	}
	b.Cleanup(c.Close)
	return c, r
}

// session makes a new session key.
func (b *bench) session() string {
	key := "agent:main:dash:suite:" + strings.ReplaceAll(b.name, "/", "-") + ":" + uuid.NewString()
	b.Cleanup(func() {
		if b.Failed() {
			b.stop(key)
		}
	})
	return key
}

// stop keeps a failed test's run out of the next tests.
func (b *bench) stop(key string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(b.ctx), 10*time.Second)
	defer cancel()
	c, err := openclaw.Dial(ctx, b.config(), nil)
	if err != nil {
		b.Logf("clean up: %v", err)
		return
	}
	defer c.Close()
	if _, err := c.AbortSession(ctx, key, "", true); err != nil {
		b.Logf("clean up: %v", err)
	}
}

func runID() string { return uuid.NewString() + ".1" }

// until polls a condition that must come true.
func (b *bench) until(what string, limit time.Duration, cond func() bool) {
	b.Helper()
	deadline := time.After(limit)
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for !cond() {
		select {
		case <-tick.C:
		case <-deadline:
			b.Fatalf("not within %s: %s", limit, what)
		case <-b.ctx.Done():
			b.Fatalf("out of time: %s", what)
		}
	}
}

// never watches that something does not happen for a while.
func (b *bench) never(what string, period time.Duration, cond func() bool) {
	b.Helper()
	deadline := time.After(period)
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		if cond() {
			b.Fatalf("happened: %s", what)
		}
		select {
		case <-tick.C:
		case <-deadline:
			return
		case <-b.ctx.Done():
			b.Fatalf("out of time: %s", what)
		}
	}
}

func (b *bench) ok(what string, err error) {
	b.Helper()
	if err != nil {
		b.Fatalf("%s: %v", what, err)
	}
}

// run is a turn under way.
type run struct {
	b       *bench
	id, key string
	answers chan openclaw.AgentAnswer
	// patience of one answer; 0: as everywhere.
	patience time.Duration
}

// delay is a message that keeps the model busy.
func delay(d time.Duration, text string) string {
	return fmt.Sprintf("%s [[delay=%d]]", text, d.Milliseconds())
}

// long keeps the model busy for longer than any test.
const long = 10 * time.Minute

func (b *bench) send(c *openclaw.Conn, key, id, message string) *run {
	b.Helper()
	return b.sendLimited(c, key, id, message, 15*time.Minute)
}

func (b *bench) sendLimited(c *openclaw.Conn, key, id, message string, limit time.Duration) *run {
	b.Helper()
	return b.request(c, openclaw.AgentRequest{RunID: id, SessionKey: key, Message: message, Timeout: limit})
}

// sendTo sends a turn that names its model.
func (b *bench) sendTo(c *openclaw.Conn, key, id, message, model string) *run {
	b.Helper()
	return b.request(c, openclaw.AgentRequest{RunID: id, SessionKey: key, Message: message, Model: model, Timeout: 15 * time.Minute})
}

func (b *bench) request(c *openclaw.Conn, req openclaw.AgentRequest) *run {
	b.Helper()
	r := &run{b: b, id: req.RunID, key: req.SessionKey, answers: make(chan openclaw.AgentAnswer, 8)}
	err := c.Agent(req,
		func(a openclaw.AgentAnswer) { r.answers <- a })
	b.ok("agent", err)
	return r
}

func (r *run) next() openclaw.AgentAnswer {
	r.b.Helper()
	limit := patience
	if r.patience > 0 {
		limit = r.patience
	}
	select {
	case a := <-r.answers:
		return a
	case <-time.After(limit):
		r.b.Fatalf("run %s: no answer", r.id)
	case <-r.b.ctx.Done():
		r.b.Fatalf("run %s: out of time", r.id)
	}
	panic("unreachable")
}

// accepted demands the first answer.
func (r *run) accepted() *run {
	r.b.Helper()
	if a := r.next(); a.Kind != openclaw.AnswerAccepted {
		r.b.Fatalf("run %s: first answer %s %v, want accepted", r.id, a.Kind, a.Failure)
	}
	return r
}

// end is the last answer; an accepted before it is skipped.
func (r *run) end() openclaw.AgentAnswer {
	r.b.Helper()
	a := r.next()
	if a.Kind == openclaw.AnswerAccepted {
		a = r.next()
	}
	return a
}

// final demands success.
func (r *run) final() openclaw.AgentAnswer {
	r.b.Helper()
	a := r.end()
	if a.Kind != openclaw.AnswerFinal {
		r.b.Fatalf("run %s: %s %v, want final", r.id, a.Kind, a.Failure)
	}
	return a
}

// failed demands a failure of one class.
func (r *run) failed(class openclaw.FailureClass) *openclaw.Failure {
	r.b.Helper()
	a := r.end()
	if a.Kind != openclaw.AnswerFailed {
		r.b.Fatalf("run %s: %s, want failed (%s)", r.id, a.Kind, class)
	}
	if a.Failure.Class != class {
		r.b.Fatalf("run %s: failed (%s) %q, want (%s)", r.id, a.Failure.Class, a.Failure.Message, class)
	}
	return a.Failure
}

// working waits until the model has the run.
func (r *run) working(c *openclaw.Conn) *run {
	r.b.Helper()
	r.b.until("the run's text is in the transcript", patience, func() bool {
		return r.b.history(c, r.key).Trace(r.id).Taken
	})
	return r
}

func (b *bench) history(c *openclaw.Conn, key string) openclaw.History {
	b.Helper()
	var h openclaw.History
	b.until("the history can be read", patience, func() bool {
		var err error
		h, err = c.History(b.ctx, key, 100)
		var rpc *openclaw.RPCError
		if errors.As(err, &rpc) && rpc.Code == "UNAVAILABLE" {
			return false // 2026.8.2 rebuilds it after a restart and puts us off
		}
		b.ok("history", err)
		return true
	})
	return h
}

// row is the session's list row; a session without one gets an empty row.
func (b *bench) row(c *openclaw.Conn, key string) openclaw.Session {
	b.Helper()
	s, _, err := c.Session(b.ctx, key)
	b.ok("session row", err)
	return s
}

// abort stops a session at the end of a test, so that no run outlives it.
func (b *bench) abort(c *openclaw.Conn, key string) openclaw.Aborted {
	b.Helper()
	a, err := c.AbortSession(b.ctx, key, "", true)
	b.ok("abort", err)
	return a
}

// restart kills and starts the gateway; every connection is lost.
func (b *bench) restart() {
	b.Helper()
	b.ok("kill", b.Kill(b.ctx))
	b.ok("start", b.Start(b.ctx))
}

// recorder keeps the events of a connection.
type recorder struct {
	openclaw.NopHandler
	mu         sync.Mutex
	texts      map[string][]openclaw.RunText
	chats      map[string][]openclaw.RunChat
	ends       map[string][]openclaw.RunPhase
	failures   map[string][]openclaw.RunPhase
	children   []openclaw.SubAgent
	suspension []string
	shutdowns  []openclaw.Shutdown
}

func (r *recorder) RunText(t openclaw.RunText) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.texts[t.RunID] = append(r.texts[t.RunID], t)
}

func (r *recorder) SubAgent(a openclaw.SubAgent) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.children = append(r.children, a)
}

// subAgents are those of a session that events told of, in order.
func (r *recorder) subAgents(key string) (out []openclaw.SubAgent) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, a := range r.children {
		if a.Parent == key {
			out = append(out, a)
		}
	}
	return out
}

func (r *recorder) RunChat(c openclaw.RunChat) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.chats[c.RunID] = append(r.chats[c.RunID], c)
}

func (r *recorder) RunPhase(p openclaw.RunPhase) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if p.Details != (openclaw.ErrorDetails{}) {
		r.failures[p.RunID] = append(r.failures[p.RunID], p)
	}
	if p.Terminal() {
		r.ends[p.RunID] = append(r.ends[p.RunID], p)
	}
}

func (r *recorder) Suspension(phase string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.suspension = append(r.suspension, phase)
}

func (r *recorder) Shutdown(s openclaw.Shutdown) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.shutdowns = append(r.shutdowns, s)
}

func (r *recorder) of(id string) (texts []openclaw.RunText, chats []openclaw.RunChat, ends []openclaw.RunPhase) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append(texts, r.texts[id]...), append(chats, r.chats[id]...), append(ends, r.ends[id]...)
}

// troubles are the failed model calls that a run's events told of.
func (r *recorder) troubles(id string) []openclaw.RunPhase {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]openclaw.RunPhase(nil), r.failures[id]...)
}

func (r *recorder) said(phase string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, p := range r.suspension {
		if p == phase {
			return true
		}
	}
	return false
}

func (r *recorder) shutdown() (openclaw.Shutdown, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.shutdowns) == 0 {
		return openclaw.Shutdown{}, false
	}
	return r.shutdowns[0], true
}
