package openclawtest

import "strings"

type outcomeKind uint8

const (
	kindOK outcomeKind = iota
	kindFailed
	kindAborted
	kindTimeout
	kindStale // the key lies deeper in the transcript: status "error" without a model call
)

func (k outcomeKind) logEvent() string {
	switch k {
	case kindOK:
		return LogFinished
	case kindAborted:
		return LogAborted
	default:
		return LogFailed
	}
}

// outcome is how a run ended; what is remembered under its id.
type outcome struct {
	kind outcomeKind
	text string
	fail *failure
}

// failure is one way a run fails, as clients see it.
type failure struct {
	message, reason, kind string
	status                int
	// soft: the answer is ok:true with status "error"; this is the kind in
	// meta.error, and why its message.
	soft, why string
}

const (
	staleText   = "⚠️ Agent run failed before producing a reply: keyed user is outside the current turn."
	timeoutText = "Request timed out before a response was generated. Please try again, or increase `agents.defaults.timeoutSeconds` in your config."
	resetText   = "✅ Session reset."
)

func (r *run) failed(mode string) outcome {
	provider, model := r.provider()
	return outcome{kind: kindFailed, fail: failureFor(mode, provider, model)}
}

func timedOut() outcome { return outcome{kind: kindTimeout, text: timeoutText} }

func aborted() outcome { return outcome{kind: kindAborted} }

type usage struct {
	Input      int      `json:"input"`
	Output     int      `json:"output"`
	CacheRead  int      `json:"cacheRead"`
	CacheWrite int      `json:"cacheWrite"`
	Total      int      `json:"total"`
	Cost       costOnly `json:"cost"`
}

type costOnly struct {
	Total float64 `json:"total"`
}

// usage is nil for a run that made no model call. Input leaves the cached
// tokens out.
func (r *run) usage() *usage {
	if r.input == 0 {
		return nil
	}
	out := (len(r.out.text) + 3) / 4
	return &usage{Input: r.input - r.cached, Output: out, CacheRead: r.cached, Total: r.input + out}
}

type agentMeta struct {
	SessionID string `json:"sessionId"`
	Provider  string `json:"provider"`
	Model     string `json:"model"`
	Usage     *usage `json:"usage,omitempty"`
}

type finalPayload struct {
	RunID      string       `json:"runId"`
	Status     string       `json:"status"`
	Summary    string       `json:"summary"`
	StopReason string       `json:"stopReason,omitempty"`
	Result     *finalResult `json:"result,omitempty"`
}

type finalResult struct {
	Payloads []replyPart     `json:"payloads"`
	Spawns   []acceptedSpawn `json:"acceptedSessionSpawns,omitempty"`
	Meta     finalMeta       `json:"meta"`
}

type replyPart struct {
	Text     string  `json:"text"`
	MediaURL *string `json:"mediaUrl"`
	IsError  bool    `json:"isError,omitempty"`
}

type finalMeta struct {
	DurationMs int64     `json:"durationMs"`
	AgentMeta  agentMeta `json:"agentMeta"`
	StopReason string    `json:"stopReason,omitempty"`
	Aborted    bool      `json:"aborted"`
	Error      *runError `json:"error,omitempty"`
}

type runError struct {
	Kind    string `json:"kind"`
	Message string `json:"message"`
}

// finalFrame is the second answer to `agent`, also what a finished key answers.
func (g *Gateway) finalFrame(id string, r *run) []byte {
	p := finalPayload{RunID: r.id, Status: "ok", Summary: "completed"}
	text, meta := r.out.text, finalMeta{DurationMs: r.ended - r.started, Aborted: r.out.kind == kindTimeout}
	switch r.out.kind {
	case kindFailed:
		f := r.out.fail
		if f.soft == "" {
			return errFrame(id, &rpcError{Code: "UNAVAILABLE", Message: f.message})
		}
		p.Status, p.Summary = "error", "failed"
		text, meta.Error = f.message, &runError{f.soft, f.why}
	case kindAborted:
		p.Status, p.Summary, p.StopReason = "timeout", "aborted", "rpc"
		return okFrame(id, p)
	case kindTimeout:
		p.Status, p.Summary = "timeout", "aborted"
	case kindStale:
		p.Status, p.Summary = "error", "failed"
	}
	provider, model := r.provider()
	meta.AgentMeta = agentMeta{SessionID: r.sessionID, Provider: provider, Model: model, Usage: r.usage()}
	isError := r.out.kind == kindTimeout || r.out.kind == kindStale || r.out.kind == kindFailed
	p.Result = &finalResult{Payloads: []replyPart{{Text: text, IsError: isError}}, Spawns: r.spawned, Meta: meta}
	return g.withReport(okFrame(id, p))
}

// withReport puts the large constant systemPromptReport in at the end of meta
// without encoding it again for each run.
func (g *Gateway) withReport(frame []byte) []byte {
	const end = "}}}}" // meta, result, payload, frame
	if g.cfg.ReportBytes < 0 {
		return frame
	}
	out := make([]byte, 0, len(frame)+g.cfg.ReportBytes+64)
	out = append(out, frame[:len(frame)-len(end)]...)
	out = append(out, `,"systemPromptReport":{"source":"run","provider":"fake","model":"fake-1","text":"`...)
	for range g.cfg.ReportBytes / len(reportUnit) {
		out = append(out, reportUnit...)
	}
	out = append(out, `"}`...)
	return append(out, end...)
}

const reportUnit = "skills tools workspace files injected into the system prompt, each with its size; "

type terminalReply struct {
	Disposition string `json:"disposition"`
	Text        string `json:"text"`
}

type terminalReceipt struct {
	RunID               string            `json:"runId"`
	SessionID           string            `json:"sessionId"`
	TurnID              string            `json:"turnId"`
	Requested           map[string]string `json:"requested"`
	Effective           map[string]string `json:"effective"`
	SuccessfulToolNames []string          `json:"successfulToolNames"`
	Rerouted            bool              `json:"rerouted"`
	TerminalDisposition string            `json:"terminalDisposition"`
}

func (r *run) receipt() *terminalReceipt {
	return &terminalReceipt{
		RunID: r.id, SessionID: r.sessionID, TurnID: deriveID("turn:" + r.id),
		Requested:           map[string]string{"provider": "fake", "model": "fake-1"},
		Effective:           map[string]string{"provider": "fake", "model": "fake-1", "responseModel": "fake-1"},
		SuccessfulToolNames: []string{}, TerminalDisposition: "visible",
	}
}

type waitPayload struct {
	RunID           string           `json:"runId"`
	Status          string           `json:"status"`
	StartedAt       int64            `json:"startedAt,omitempty"`
	EndedAt         int64            `json:"endedAt,omitempty"`
	Error           string           `json:"error,omitempty"`
	StopReason      string           `json:"stopReason,omitempty"`
	LivenessState   string           `json:"livenessState,omitempty"`
	TimeoutPhase    string           `json:"timeoutPhase,omitempty"`
	ProviderStarted *bool            `json:"providerStarted,omitempty"`
	TerminalReceipt *terminalReceipt `json:"terminalReceipt,omitempty"`
	TerminalReply   *terminalReply   `json:"terminalReply,omitempty"`
}

// waitResult is what agent.wait says of a finished run.
func (r *run) waitResult() waitPayload {
	p := waitPayload{RunID: r.id, StartedAt: r.started, EndedAt: r.ended}
	switch r.out.kind {
	case kindOK:
		p.Status, p.StopReason, p.LivenessState = "ok", "stop", "working"
		p.TerminalReceipt = r.receipt()
		p.TerminalReply = &terminalReply{"visible", r.out.text}
	case kindFailed:
		p.Status, p.Error = "error", r.out.fail.message
	case kindAborted:
		p.Status, p.StopReason = "error", "rpc"
	case kindTimeout:
		p.Status, p.Error, p.TimeoutPhase = "timeout", r.out.text, "provider"
	case kindStale:
		p.Status, p.Error = "error", strings.TrimPrefix(r.out.text, "⚠️ ")
	}
	return p
}
