package openclawtest

import "unicode/utf8"

func listedEvents() []string {
	return []string{"connect.challenge", "agent", "chat", "task", "tick", "shutdown", "health", "presence", "config.changed",
		"gateway.suspension", "sessions.changed", "device.pair.requested", "device.pair.resolved"}
}

// emit sends an event to every connection that may read. Callers hold g.mu.
func (g *Gateway) emit(l *life, event string, payload any) {
	var head []byte
	for c := range l.conns {
		if !c.ready || !c.scopes.allows("operator.read") {
			continue
		}
		if head == nil {
			head = eventHead(event, payload)
		}
		c.sendEvent(head)
	}
}

func (g *Gateway) readers(l *life) bool {
	for c := range l.conns {
		if c.ready && c.scopes.allows("operator.read") {
			return true
		}
	}
	return false
}

type agentEvent struct {
	RunID      string `json:"runId"`
	SessionKey string `json:"sessionKey,omitempty"`
	SessionID  string `json:"sessionId,omitempty"`
	Stream     string `json:"stream"`
	Data       any    `json:"data"`
	Seq        int    `json:"seq"`
	Ts         int64  `json:"ts"`
}

type chatEvent struct {
	RunID        string       `json:"runId"`
	SessionKey   string       `json:"sessionKey"`
	AgentID      string       `json:"agentId,omitempty"`
	Seq          int          `json:"seq"`
	State        string       `json:"state"`
	DeltaText    string       `json:"deltaText,omitempty"`
	Replace      bool         `json:"replace,omitempty"`
	StopReason   string       `json:"stopReason,omitempty"`
	ErrorMessage string       `json:"errorMessage,omitempty"`
	ErrorKind    string       `json:"errorKind,omitempty"`
	ErrorDetail  *errorDetail `json:"errorDetail,omitempty"`
	Message      *chatMessage `json:"message,omitempty"`
}

type errorDetail struct {
	Provider       string `json:"provider"`
	Model          string `json:"model"`
	FailoverReason string `json:"failoverReason,omitempty"`
	HTTPStatus     int    `json:"httpStatus,omitempty"`
}

type chatMessage struct {
	Role      string     `json:"role"`
	Content   []textPart `json:"content"`
	Timestamp int64      `json:"timestamp"`
}

type textPart struct {
	Type string `json:"type"`
	Text string `json:"text"`
}

func assistantMessage(text string) *chatMessage {
	return &chatMessage{Role: "assistant", Content: []textPart{{"text", text}}, Timestamp: nowMs()}
}

func (g *Gateway) emitAgent(l *life, r *run, stream string, data any) {
	r.seq++
	g.emit(l, "agent", agentEvent{RunID: r.id, SessionKey: r.key, SessionID: r.sessionID, Stream: stream, Data: data, Seq: r.seq, Ts: nowMs()})
}

func (g *Gateway) emitChat(l *life, r *run, e chatEvent) {
	r.seq++
	e.RunID, e.SessionKey, e.AgentID, e.Seq = r.id, r.key, "main", r.seq
	g.emit(l, "chat", e)
}

type lifecycle struct {
	Phase            string           `json:"phase"`
	StartedAt        int64            `json:"startedAt,omitempty"`
	EndedAt          int64            `json:"endedAt,omitempty"`
	Provider         string           `json:"provider,omitempty"`
	Model            string           `json:"model,omitempty"`
	Status           string           `json:"status,omitempty"`
	StopReason       string           `json:"stopReason,omitempty"`
	Error            string           `json:"error,omitempty"`
	ErrorObservation *errorDetail     `json:"errorObservation,omitempty"`
	Aborted          *bool            `json:"aborted,omitempty"`
	ExecutionSettled bool             `json:"executionSettled,omitempty"`
	TerminalReceipt  *terminalReceipt `json:"terminalReceipt,omitempty"`
	TerminalReply    *terminalReply   `json:"terminalReply,omitempty"`
}

// emitPreparing is what a run shows before the model call.
func (g *Gateway) emitPreparing(l *life, r *run) {
	if !g.readers(l) {
		return
	}
	if r.via == viaAgent {
		g.emitTask(l, r, "running")
	}
}

func (g *Gateway) emitStart(l *life, r *run) {
	if !g.readers(l) {
		return
	}
	g.emitAgent(l, r, "lifecycle", lifecycle{Phase: "start", StartedAt: r.started})
	provider, model := r.provider()
	g.emitAgent(l, r, "lifecycle", lifecycle{Phase: "model", Provider: provider, Model: model})
}

// emitRetry is one more round inside the run: its `finishing` is not terminal.
func (g *Gateway) emitRetry(l *life, r *run) {
	if !g.readers(l) {
		return
	}
	g.emitCallFailed(l, r, r.failed(r.plan.fail).fail)
	g.emitAgent(l, r, "lifecycle", lifecycle{Phase: "start", StartedAt: nowMs()})
}

// emitCallFailed tells of one model call, within a second of its failure. An
// empty answer is none.
func (g *Gateway) emitCallFailed(l *life, r *run, f *failure) {
	no := false
	if f.soft != "" && f.reason == "" && f.why == f.message && r.plan.fail == "empty" {
		g.emitAgent(l, r, "lifecycle", lifecycle{Phase: "finishing", StopReason: "stop", Aborted: &no})
		return
	}
	g.emitAgent(l, r, "lifecycle", lifecycle{Phase: "finishing", Error: f.message, ErrorObservation: r.observed(f), Aborted: &no})
}

func (r *run) observed(f *failure) *errorDetail {
	provider, model := r.provider()
	return &errorDetail{provider, model, f.reason, f.status}
}

func (g *Gateway) emitTask(l *life, r *run, status string) {
	row := taskRow{ID: deriveID("task:" + r.id), RunID: r.id, Key: r.key, Status: status, Created: r.accepted, Started: r.started, Ended: r.ended}
	g.emit(l, "task", map[string]any{"action": "upserted", "task": row.wire()})
}

// emitEnd sends the terminal events of a run.
func (g *Gateway) emitEnd(l *life, r *run, before runState) {
	if !g.readers(l) {
		return
	}
	no, yes := false, true
	if before == stateQueued || before == stateLane || before == stateRerun {
		g.emitChat(l, r, chatEvent{State: "aborted", StopReason: "rpc"})
		return
	}
	switch r.out.kind {
	case kindOK:
		if u := r.usage(); u != nil {
			g.emitAgent(l, r, "usage", map[string]int{"outputTokens": u.Output})
		}
		g.emitAgent(l, r, "lifecycle", lifecycle{Phase: "finishing", StopReason: "stop", Aborted: &no})
		g.emitAgent(l, r, "lifecycle", lifecycle{Phase: "end", StartedAt: r.started, EndedAt: r.ended, StopReason: "stop",
			ExecutionSettled: true, TerminalReceipt: r.receipt(), TerminalReply: &terminalReply{"visible", r.out.text}})
		g.emitChat(l, r, chatEvent{State: "final", StopReason: "stop", Message: assistantMessage(r.out.text)})
	case kindAborted:
		// The real gateway may say `end` and then still `error` for one aborted run.
		g.emitAgent(l, r, "lifecycle", lifecycle{Phase: "end", Status: "cancelled", StartedAt: r.started, EndedAt: r.ended,
			StopReason: "rpc", Aborted: &yes, ExecutionSettled: true})
		g.emitAgent(l, r, "lifecycle", lifecycle{Phase: "error", Error: "aborted", EndedAt: r.ended, ExecutionSettled: true})
		g.emitChat(l, r, chatEvent{State: "aborted", StopReason: "rpc"})
	default:
		g.emitFailure(l, r)
	}
	if r.via == viaAgent {
		g.emitTask(l, r, taskStatus(r.out.kind))
	}
}

func (g *Gateway) emitFailure(l *life, r *run) {
	e := chatEvent{State: "error", ErrorMessage: r.out.text, ErrorKind: "timeout"}
	if f := r.out.fail; f != nil {
		e.ErrorMessage, e.ErrorKind = f.message, f.kind
		if r.plan != nil && r.plan.fail != "" { // a model call was made
			e.ErrorDetail = r.observed(f)
			g.emitCallFailed(l, r, f)
		}
	} else if r.out.kind == kindStale {
		e.ErrorKind = ""
	}
	g.emitAgent(l, r, "lifecycle", lifecycle{Phase: "error", StartedAt: r.started, EndedAt: r.ended, Error: e.ErrorMessage, ErrorObservation: e.ErrorDetail, ExecutionSettled: true})
	g.emitChat(l, r, e)
}

// delta is a piece of a reply on its way to one connection. Unsent deltas of a
// run are merged: the newest text replaces the one that waits.
type delta struct {
	run                 *run // identity only: the writer must not read it
	runID, key, session string
	text                string // all so far
	from                int
	replace             bool
	agentSeq, chatSeq   int
}

func (g *Gateway) emitDelta(l *life, r *run, from int, replace bool) {
	if !g.readers(l) {
		return
	}
	d := delta{run: r, runID: r.id, key: r.key, session: r.sessionID, text: r.plan.reply[:r.shown], from: from,
		replace: replace, agentSeq: r.seq + 1, chatSeq: r.seq + 2}
	r.seq += 2
	for c := range l.conns {
		if c.ready && c.scopes.allows("operator.read") {
			own := d
			c.push(outFrame{delta: &own}, len(d.text))
		}
	}
}

// render makes the two frames of a delta; it runs in the writer.
func (d *delta) render() [][]byte {
	fresh := d.text
	if d.from <= len(d.text) && !d.replace && utf8.ValidString(d.text[d.from:]) {
		fresh = d.text[d.from:]
	}
	data := map[string]any{"text": d.text, "delta": fresh, "itemId": "msg:" + d.runID}
	if d.replace {
		data["replace"] = true
	}
	return [][]byte{
		eventHead("agent", agentEvent{RunID: d.runID, SessionKey: d.key, SessionID: d.session, Stream: "assistant", Data: data, Seq: d.agentSeq, Ts: nowMs()}),
		eventHead("chat", chatEvent{RunID: d.runID, SessionKey: d.key, AgentID: "main", Seq: d.chatSeq, State: "delta", DeltaText: fresh, Replace: d.replace, Message: assistantMessage(d.text)}),
	}
}
