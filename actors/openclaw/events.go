package openclaw

import "time"

// Handler gets the decoded events of a connection, in the order they came, on
// the reader goroutine: it must not block. A gateway tells every operator
// about all runs of all sessions, so events of unknown runs are normal. Events
// are never replayed; after a reconnect read the state by calls.
type Handler interface {
	// RunText is the reply text so far. Deltas are merged by the gateway and
	// may be missing; each holds the whole text.
	RunText(RunText)
	// RunPhase is a step in a run's life cycle.
	RunPhase(RunPhase)
	// RunChat is a terminal chat state. It can come twice for one run.
	RunChat(RunChat)
	// SubAgent tells of an agent that a run has started, in a session of its own:
	// it may outlive the run. Each step of its life comes.
	SubAgent(SubAgent)
	// Shutdown announces the end of the gateway process.
	Shutdown(Shutdown)
	// Suspension tells a new phase: accepting, preparing, draining, prepared.
	Suspension(phase string)
	// Tick is the gateway's sign of life.
	Tick()
	// Gap tells that the gateway dropped events for this connection.
	Gap(missed int64)
}

// NopHandler ignores everything; embed it to handle a few events only.
type NopHandler struct{}

func (NopHandler) RunText(RunText)   {}
func (NopHandler) RunPhase(RunPhase) {}
func (NopHandler) RunChat(RunChat)   {}
func (NopHandler) SubAgent(SubAgent) {}
func (NopHandler) Shutdown(Shutdown) {}
func (NopHandler) Suspension(string) {}
func (NopHandler) Tick()             {}
func (NopHandler) Gap(int64)         {}

// RunText is the reply of a run as far as it is known.
type RunText struct {
	RunID      string
	SessionKey string // may be empty
	Text       string // all so far
	CutFrom    int
	Replaced   bool // earlier text was taken back
}

// RunPhase is a lifecycle event: start, model, finishing, end, error, … Only
// Terminal ones are the end; finishing is not.
type RunPhase struct {
	RunID      string
	SessionKey string
	Phase      string
	Status     string // such as cancelled
	StopReason string
	Error      string
	// Details are the gateway's observation of a model call that failed. It
	// comes with the phase finishing within a second of that call, long before
	// the end: the gateway asks the provider again by itself.
	Details ErrorDetails
	// Settled: the gateway will not touch the run again. 2026.8 does not tell;
	// there it is set for every end that no other end follows.
	Settled bool
}

// Terminal reports whether the run is over for good.
func (p RunPhase) Terminal() bool { return p.Settled && (p.Phase == "end" || p.Phase == "error") }

// RunChat is the end of a run as chat clients see it.
type RunChat struct {
	RunID      string
	SessionKey string
	State      string // final, error or aborted
	Text       string // with final
	CutFrom    int
	StopReason string
	Error      string       // with error
	Class      FailureClass // with error
}

// SubAgent is an agent that works for a session.
type SubAgent struct {
	Key     string // of its own session
	Parent  string // session that asked for it
	Working bool   // queued, running, or its result is not yet brought to the parent
}

// Shutdown is the announcement before the close with 1012.
type Shutdown struct {
	Reason string
	// Restarting means that the gateway will come back, by its own guess in
	// RestartExpected (real restarts took five times as long).
	Restarting      bool
	RestartExpected time.Duration
}

func (c *Conn) handleEvent(f frame) {
	c.checkSeq(f.seq)
	ok := true
	switch f.event {
	case "agent":
		ok = c.agentEvent(f.payload)
	case "chat":
		ok = c.chatEvent(f.payload)
	case "task":
		ok = c.taskEvent(f.payload)
	case "tick":
		c.handler.Tick()
	case "shutdown":
		s := decodeShutdown(f.payload, c.cfg.MaxDepth, c.clean)
		c.shutdown = &s
		c.handler.Shutdown(s)
	case "gateway.suspension":
		var phase string
		if phase, ok = decodeSuspension(f.payload, c.cfg.MaxDepth); ok {
			c.handler.Suspension(phase)
		}
	default:
		// What the gateway announced at the handshake is merely of no use here.
		if !c.hello.events[f.event] {
			c.cfg.Metrics.unknown.Inc()
		}
	}
	if !ok {
		c.cfg.Metrics.ignore(ignoredEvent)
	}
}

// checkSeq notices holes. Events without a number do not count.
func (c *Conn) checkSeq(seq int64) {
	if seq <= 0 {
		return
	}
	if missed := seq - c.lastSeq - 1; c.lastSeq > 0 && missed > 0 {
		c.cfg.Metrics.gaps.Inc()
		c.handler.Gap(missed)
	}
	c.lastSeq = max(c.lastSeq, seq)
}

// runEvent is the envelope of agent and chat events.
type runEvent struct {
	runID, sessionKey, stream, state, stopReason, errText, errKind string
	data, message, detail                                          []byte
}

func decodeRunEvent(b []byte, depth int) (runEvent, bool) {
	var e runEvent
	if !isObject(b) {
		return e, false
	}
	it := object(b, depth)
	for it.next() {
		switch string(it.key) {
		case "runId":
			e.runID, _ = text(it.val)
		case "sessionKey":
			e.sessionKey, _ = text(it.val)
		case "stream":
			e.stream, _ = text(it.val)
		case "state":
			e.state, _ = text(it.val)
		case "stopReason":
			e.stopReason, _ = text(it.val)
		case "errorMessage":
			e.errText, _ = text(it.val)
		case "errorKind":
			e.errKind, _ = text(it.val)
		case "data":
			e.data = it.val
		case "message":
			e.message = it.val
		case "errorDetail":
			e.detail = it.val
		}
	}
	ok := it.err == nil && e.runID != "" && len(e.runID) <= maxRunID && len(e.sessionKey) <= maxSessionKey
	return e, ok
}

func (c *Conn) agentEvent(b []byte) bool {
	e, ok := decodeRunEvent(b, c.cfg.MaxDepth)
	if !ok {
		return false
	}
	switch e.stream {
	case "assistant":
		t, ok := decodeRunText(e, c.cfg)
		if ok {
			c.handler.RunText(t)
		}
		return ok
	case "lifecycle":
		p, ok := decodeRunPhase(e, c.cfg.MaxDepth-1, c.clean)
		if ok {
			c.noteReason(p)
			c.handler.RunPhase(p)
		}
		return ok
	case "":
		return false
	}
	return true
}

// noteReason keeps why a run of ours fails: its answer will not say. A new
// model call starts with a clean sheet.
func (c *Conn) noteReason(p RunPhase) {
	if p.Details == (ErrorDetails{}) && p.Phase != "start" {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if own := c.runs[p.RunID]; own != nil {
		own.hint = p.Details
	}
}

func decodeRunText(e runEvent, cfg Config) (RunText, bool) {
	t := RunText{RunID: e.runID, SessionKey: e.sessionKey}
	if !isObject(e.data) {
		return t, false
	}
	seen := false
	it := object(e.data, cfg.MaxDepth-1)
	for it.next() {
		switch string(it.key) {
		case "text":
			t.Text, t.CutFrom, seen = quoted(it.val, min(MaxRunText, cfg.MaxText))
		case "replace":
			t.Replaced, _ = boolean(it.val)
		}
	}
	return t, it.err == nil && seen
}

func decodeRunPhase(e runEvent, depth int, c cleaner) (RunPhase, bool) {
	p := RunPhase{RunID: e.runID, SessionKey: e.sessionKey}
	if !isObject(e.data) {
		return p, false
	}
	word := func(v []byte) string {
		s, _ := text(v)
		return clean(s, 64)
	}
	told := false
	it := object(e.data, depth)
	for it.next() {
		switch string(it.key) {
		case "phase":
			p.Phase = word(it.val)
		case "status":
			p.Status = word(it.val)
		case "stopReason":
			p.StopReason = word(it.val)
		case "error":
			s, _ := text(it.val)
			p.Error = c.text(s)
		case "executionSettled":
			p.Settled, told = boolean(it.val)
		case "errorObservation":
			p.Details = decodeDetails(it.val, depth-1, c)
		}
	}
	if !told && (p.Phase == "end" || p.Phase == "error") {
		p.Settled = p.Status != "cancelled" // after an abort an error follows
	}
	return p, it.err == nil && p.Phase != ""
}

func (c *Conn) chatEvent(b []byte) bool {
	e, ok := decodeRunEvent(b, c.cfg.MaxDepth)
	if !ok {
		return false
	}
	switch e.state {
	case "status", "delta": // the agent stream has the same text
		return true
	case "final", "error", "aborted":
	default:
		return false
	}
	r := RunChat{RunID: e.runID, SessionKey: e.sessionKey, State: e.state, StopReason: clean(e.stopReason, 32)}
	switch e.state {
	case "final":
		r.Text, r.CutFrom = messageText(e.message, c.cfg.MaxDepth-1, min(MaxRunText, c.cfg.MaxText))
	case "error":
		r.Error = c.clean.text(e.errText)
		r.Class = classOfChat(e, c.cfg.MaxDepth-1, c.clean)
	}
	c.handler.RunChat(r)
	return true
}

func classOfChat(e runEvent, depth int, c cleaner) FailureClass {
	f := Failure{Message: c.text(e.errText)}
	if e.detail == nil && e.errKind == "timeout" {
		return ClassTimeout
	}
	f.classify(decodeDetails(e.detail, depth, c), ErrorDetails{})
	return f.Class
}

// taskEvent reads the gateway's own ledger; only sub-agents matter of it.
func (c *Conn) taskEvent(b []byte) bool {
	if !isObject(b) {
		return false
	}
	var t subAgentWire
	it := object(b, c.cfg.MaxDepth)
	for it.next() {
		if string(it.key) == "task" && isObject(it.val) {
			t = decodeSubAgent(it.val, c.cfg.MaxDepth-1)
		}
	}
	if it.err != nil {
		return false
	}
	if t.Runtime == "subagent" && t.Owner != "" && t.Child != "" && len(t.Owner) <= maxSessionKey && len(t.Child) <= maxSessionKey {
		c.handler.SubAgent(SubAgent{Key: t.Child, Parent: t.Owner, Working: t.Status == "running" || t.Status == "queued" || t.onItsWay()})
	}
	return true
}

func decodeSubAgent(b []byte, depth int) (t subAgentWire) {
	row := object(b, depth)
	for row.next() {
		switch string(row.key) {
		case "runtime":
			t.Runtime, _ = text(row.val)
		case "ownerKey":
			t.Owner, _ = text(row.val)
		case "childSessionKey":
			t.Child, _ = text(row.val)
		case "status":
			t.Status, _ = text(row.val)
		case "deliveryStatus":
			t.Delivery, _ = text(row.val)
		}
	}
	return t
}

func decodeShutdown(b []byte, depth int, c cleaner) Shutdown {
	var s Shutdown
	if !isObject(b) {
		return s
	}
	it := object(b, depth)
	for it.next() {
		switch string(it.key) {
		case "reason":
			r, _ := text(it.val)
			s.Reason = c.text(r)
		case "restartExpectedMs":
			if _, ok := integer(it.val); ok {
				s.Restarting, s.RestartExpected = true, millis(it.val, maxRetryAfter)
			}
		}
	}
	return s
}

func decodeSuspension(b []byte, depth int) (string, bool) {
	if !isObject(b) {
		return "", false
	}
	phase := ""
	it := object(b, depth)
	for it.next() {
		if string(it.key) == "phase" {
			s, _ := text(it.val)
			phase = clean(s, 32)
		}
	}
	return phase, it.err == nil && phase != ""
}
