package openclaw

import (
	"encoding/json"
	"errors"
	"time"
)

// AgentRequest is one turn. Deliver is always false: the answer comes to us
// and to nobody's chat.
type AgentRequest struct {
	RunID             string        // idempotency key and run id, at most 256 bytes
	SessionKey        string        // at most 512 bytes
	Message           string        // data, never a command: see CommandGuard
	Model             string        // empty: the gateway's default
	Timeout           time.Duration // whole seconds, at least one; bounds the gateway's own retries too
	ExtraSystemPrompt string
}

const (
	maxRunID      = 256
	maxSessionKey = 512
)

type agentParams struct {
	Message           string `json:"message"`
	IdempotencyKey    string `json:"idempotencyKey"`
	SessionKey        string `json:"sessionKey"`
	Model             string `json:"model,omitempty"`
	Timeout           int64  `json:"timeout"`
	ExtraSystemPrompt string `json:"extraSystemPrompt,omitempty"`
	Deliver           bool   `json:"deliver"`
}

func (r AgentRequest) encode() ([]byte, error) {
	switch {
	case r.RunID == "" || len(r.RunID) > maxRunID:
		return nil, errors.New("agent request: run id must have 1 to 256 bytes")
	case r.SessionKey == "" || len(r.SessionKey) > maxSessionKey:
		return nil, errors.New("agent request: session key must have 1 to 512 bytes")
	case r.Message == "":
		return nil, errors.New("agent request: message is empty")
	case r.Timeout < time.Second:
		return nil, errors.New("agent request: timeout below one second")
	}
	return json.Marshal(agentParams{
		Message: guarded(r.Message), IdempotencyKey: r.RunID, SessionKey: r.SessionKey, Model: r.Model,
		Timeout: int64(r.Timeout / time.Second), ExtraSystemPrompt: r.ExtraSystemPrompt,
	})
}

// AnswerKind says what an AgentAnswer means. Accepted may be followed by one
// of the others, which are the end of the request.
type AnswerKind uint8

// Kinds of AgentAnswer.
const (
	AnswerAccepted AnswerKind = iota + 1 // the gateway took the run
	AnswerInFlight                       // the run id is running already; its end is seen elsewhere
	AnswerFinal                          // the run succeeded
	AnswerFailed                         // the run, or the request, failed: see Failure
	AnswerLost                           // the connection ended first
)

func (k AnswerKind) String() string {
	switch k {
	case AnswerAccepted:
		return "accepted"
	case AnswerInFlight:
		return "in_flight"
	case AnswerFinal:
		return "final"
	case AnswerFailed:
		return "failed"
	case AnswerLost:
		return "lost"
	}
	return "invalid"
}

// AgentAnswer is one answer to an Agent request.
type AgentAnswer struct {
	Kind  AnswerKind
	RunID string
	// Text, CutFrom, Usage and Meta come with AnswerFinal. CutFrom is the length
	// in bytes of a text that was longer than Config.MaxText, else 0.
	Text    string
	CutFrom int
	Usage   *Usage // nil: the gateway does not say
	Meta    RunMeta
	// Spawned comes with AnswerFinal: how many sub-agents the run has started.
	// What they find is told later, see SubAgents.
	Spawned int
	// Failure comes with AnswerFailed.
	Failure *Failure
	// Written comes with AnswerLost: false only if certainly nothing was sent.
	Written bool
}

// Usage is what a run cost, in tokens. Input leaves out what was read from and
// written to the provider's cache, whatever the provider: 2026.9.6 counts all
// three of its APIs so.
type Usage struct {
	Input, Output, CacheRead, CacheWrite, Total int64
}

// RunMeta tells how a run was carried out.
type RunMeta struct {
	SessionID string
	Provider  string
	Model     string
	Duration  time.Duration
}

// Agent sends one turn. It never blocks: the frame is queued in call order,
// and on is called from the reader, first with an optional accepted, then
// exactly once with the end. An error means that certainly nothing was or will
// be written and on is never called.
func (c *Conn) Agent(req AgentRequest, on func(AgentAnswer)) error {
	params, err := req.encode()
	if err != nil {
		return err
	}
	return c.enqueue(&pending{method: "agent", on: on, runID: req.RunID}, params)
}

// agentPayload is what an agent answer carries, as far as it is used. The
// slices alias the frame.
type agentPayload struct {
	runID, status, summary, stopReason string
	result, errText                    []byte
}

func decodeAgentPayload(b []byte, depth int) (agentPayload, error) {
	var p agentPayload
	if !isObject(b) {
		return p, errNoPayload
	}
	it := object(b, depth)
	for it.next() {
		switch string(it.key) {
		case "runId":
			p.runID, _ = text(it.val)
		case "status":
			p.status, _ = text(it.val)
		case "summary":
			p.summary, _ = text(it.val)
		case "stopReason":
			p.stopReason, _ = text(it.val)
		case "result":
			p.result = it.val
		case "error":
			p.errText = it.val
		}
	}
	return p, it.err
}

// decodeAgentAnswer classifies an answer. Success needs ok on the frame, ok in
// the payload, the right run id and a result; everything else is a failure.
func (c *Conn) decodeAgentAnswer(p *pending, f frame) AgentAnswer {
	a := AgentAnswer{RunID: p.runID}
	if !f.ok {
		a.Kind, a.Failure = AnswerFailed, classifyError(decodeError(p.method, f.err, c.cfg.MaxDepth, c.clean), p.accepted, p.hint)
		return a
	}
	w, err := decodeAgentPayload(f.payload, c.cfg.MaxDepth)
	switch {
	case err != nil:
		return a.odd(err.Error(), p.accepted)
	case w.runID != p.runID:
		return a.odd("the answer names another run", p.accepted)
	}
	switch w.status {
	case "accepted":
		a.Kind = AnswerAccepted
	case "in_flight":
		a.Kind = AnswerInFlight
	case "ok":
		return c.decodeSuccess(a, w, p)
	default:
		a.Kind, a.Failure = AnswerFailed, c.classifyStatus(w, p.accepted, p.hint)
	}
	return a
}

func (a AgentAnswer) odd(problem string, accepted bool) AgentAnswer {
	a.Kind = AnswerFailed
	a.Failure = &Failure{Class: ClassUnknown, Message: "unusable answer: " + problem, BeforeAccept: !accepted}
	return a
}

// decodeSuccess fills text, usage and meta. An answer that says ok but was
// aborted, or has no result, is no success.
func (c *Conn) decodeSuccess(a AgentAnswer, w agentPayload, p *pending) AgentAnswer {
	if aborted(w.stopReason) {
		a.Kind, a.Failure = AnswerFailed, c.classifyStatus(w, p.accepted, p.hint)
		return a
	}
	r, err := decodeResult(w.result, c.cfg.MaxDepth-1, c.cfg.MaxText)
	switch {
	case err != nil:
		return a.odd("no result: "+err.Error(), p.accepted)
	case r.isError || r.stopReason == "error":
		a.Kind, a.Failure = AnswerFailed, c.classifyStatus(w, p.accepted, p.hint)
		return a
	}
	if r.silent && r.text == "" && r.spawned == 0 { // 2026.9 says itself that this failed
		a.Kind = AnswerFailed
		a.Failure = &Failure{Class: ClassEmpty, Message: "Agent couldn't generate a response: the model answered NO_REPLY.", Final: true,
			Provider: r.meta.Provider, Usage: r.usage}
		return a
	}
	a.Kind = AnswerFinal
	a.Text, a.CutFrom = r.text, r.cutFrom
	a.Usage, a.Meta, a.Spawned = r.usage, r.meta, r.spawned
	return a
}
