package openclaw

import (
	"cmp"
	"context"
	"errors"
	"time"
)

// RunStatus is what agent.wait knows about a run.
type RunStatus struct {
	RunID  string
	Status string // ok, error, timeout, pending
	// Ended is the only proof that the run is over. Without it the run may be
	// running, or unknown, or forgotten: the gateway does not tell them apart.
	Ended time.Time
	// Queued is true while the run waits for its session or lane.
	Queued     bool
	StopReason string
	Error      string
	// Text is the reply, where the gateway still knows it (HasText).
	Text    string
	HasText bool
	CutFrom int
}

// Over reports whether the run has ended.
func (s RunStatus) Over() bool { return !s.Ended.IsZero() }

// Succeeded reports whether the run ended well.
func (s RunStatus) Succeeded() bool {
	return s.Over() && s.Status == "ok" && !aborted(s.StopReason)
}

// Aborted reports whether the run ended by an abort, whatever its status.
func (s RunStatus) Aborted() bool { return s.Over() && aborted(s.StopReason) }

// Failure says why a run ended badly, as far as agent.wait tells.
func (s RunStatus) Failure() *Failure {
	f := &Failure{Message: s.Error, StopReason: s.StopReason, Final: true}
	switch {
	case s.Aborted():
		f.Class = ClassAborted
	case s.Status == "timeout":
		f.Class = ClassTimeout
	default:
		f.classify(ErrorDetails{}, ErrorDetails{})
	}
	return f
}

// Wait asks for a run and lets the gateway wait up to timeout for its end. A
// timeout of zero asks for the state now. An unknown run looks like a running
// one.
func (c *Conn) Wait(ctx context.Context, runID string, timeout time.Duration) (RunStatus, error) {
	const method = "agent.wait"
	ctx, cancel := context.WithTimeout(ctx, timeout+c.cfg.CallTimeout)
	defer cancel()
	s, err := ask(ctx, c, method, map[string]any{"runId": runID, "timeoutMs": timeout.Milliseconds()}, int(c.cfg.MaxFrame), func(b []byte) (RunStatus, error) {
		s, err := c.decodeRunStatus(b)
		if err == nil && s.RunID == runID {
			err = c.hold(runID, len(s.Text))
		}
		return s, err
	})
	switch {
	case err != nil:
		return RunStatus{}, err
	case s.RunID != runID:
		return RunStatus{}, &AnswerError{Method: method, Problem: "the answer names another run"}
	}
	return s, nil
}

func (c *Conn) decodeRunStatus(b []byte) (RunStatus, error) {
	var s RunStatus
	if !isObject(b) {
		return s, errNoObject
	}
	it := object(b, c.cfg.MaxDepth)
	for it.next() {
		switch string(it.key) {
		case "runId":
			s.RunID, _ = text(it.val)
		case "status":
			v, _ := text(it.val)
			s.Status = clean(v, 32)
		case "endedAt":
			s.Ended = unixMillis(it.val)
		case "timeoutPhase":
			s.Queued = string(it.val) == `"queue"`
		case "stopReason":
			v, _ := text(it.val)
			s.StopReason = clean(v, 32)
		case "error":
			v, _ := text(it.val)
			s.Error = c.clean.text(v)
		case "terminalReply":
			c.decodeTerminalReply(&s, it.val)
		}
	}
	switch {
	case it.err != nil:
		return s, it.err
	case s.Status == "":
		return s, errors.New("no status")
	}
	s.Queued = s.Queued && !s.Over()
	return s, nil
}

var errNoObject = errors.New("payload is no object")

func (c *Conn) decodeTerminalReply(s *RunStatus, b []byte) {
	if !isObject(b) {
		return
	}
	it := object(b, c.cfg.MaxDepth-1)
	for it.next() {
		if string(it.key) == "text" {
			s.Text, s.CutFrom, s.HasText = quoted(it.val, c.cfg.MaxText)
		}
	}
}

// Session is a row of sessions.list or sessions.describe. HasActiveRun and
// ActiveRunIDs exist only in rows of the list.
type Session struct {
	Key       string
	SessionID string
	// Status is running, queued, done, failed, …; running also means that the
	// gateway's own re-run after a crash is pending.
	Status       string
	HasActiveRun bool
	// ActiveRunIDs is nil when the gateway did not tell, which is the rule while
	// a turn of agent is in its model call; empty means none. After a crash the
	// id of the re-run is there before it starts. History tells more.
	ActiveRunIDs   []string
	AbortedLastRun bool
	LastRunID      string // the last run that ended; may be missing
	UpdatedAt      time.Time
}

// RerunPending reports whether the gateway is going to run the interrupted turn
// again. Of a re-run that was stopped early OpenClaw 2026.9.6 leaves
// abortedLastRun behind for good; then the status is killed, and nothing follows.
func (s *Session) RerunPending() bool { return s.AbortedLastRun && s.Status != "killed" }

const maxActiveRuns = 64

// SessionPage is one page of sessions.list.
type SessionPage struct {
	Sessions []Session
	HasMore  bool
	// Next is the offset of the next page, if HasMore.
	Next int
}

// SessionQuery selects rows of sessions.list.
type SessionQuery struct {
	Limit  int    // 0: 100
	Offset int    // from Next
	Search string // substring of the key; the gateway matches other fields too
}

// Sessions lists one page of sessions, newest first. A row that cannot be read
// fails the call: a missing row would look like an idle session.
func (c *Conn) Sessions(ctx context.Context, q SessionQuery) (SessionPage, error) {
	return c.sessions(ctx, q, func([]byte) bool { return true })
}

// sessions keeps the rows whose key is wanted.
func (c *Conn) sessions(ctx context.Context, q SessionQuery, wanted func(key []byte) bool) (SessionPage, error) {
	limit := cmp.Or(q.Limit, 100)
	params := map[string]any{"limit": limit}
	if q.Offset > 0 {
		params["offset"] = q.Offset
	}
	if q.Search != "" {
		params["search"] = q.Search
	}
	return ask(ctx, c, "sessions.list", params, int(c.cfg.MaxFrame), func(b []byte) (SessionPage, error) {
		return decodeSessions(b, c.cfg.MaxDepth, limit, q.Offset, wanted)
	})
}

// Session finds the list row of one key, false if there is none. It is the
// only way to learn what is active in a session.
func (c *Conn) Session(ctx context.Context, key string) (Session, bool, error) {
	p, err := c.sessions(ctx, SessionQuery{Search: key, Limit: 100}, func(k []byte) bool {
		s, ok := text(k)
		return !ok || s == key
	})
	if err != nil {
		return Session{}, false, err
	}
	for _, s := range p.Sessions {
		if s.Key == key {
			return s, true, nil
		}
	}
	if p.HasMore {
		return Session{}, false, &AnswerError{Method: "sessions.list", Problem: "too many sessions match one key"}
	}
	return Session{}, false, nil
}

// Describe reads one session, false if it does not exist. The row has no
// HasActiveRun and no ActiveRunIDs.
func (c *Conn) Describe(ctx context.Context, key string) (Session, bool, error) {
	s, err := ask(ctx, c, "sessions.describe", map[string]any{"key": key}, maxRow, func(b []byte) (*Session, error) {
		return decodeDescription(b, c.cfg.MaxDepth)
	})
	if err != nil || s == nil {
		return Session{}, false, err
	}
	return *s, true, nil
}

// Aborted is what sessions.abort did.
type Aborted struct {
	Status string // aborted, or why not
	RunID  string // the run that was stopped, if any
}

// Stopped reports whether a run was stopped by this call.
func (a Aborted) Stopped() bool { return a.Status == "aborted" && a.RunID != "" }

// AbortSession stops what runs in a session: one run, or whatever is active
// when runID is empty; with clearQueued also what waits behind it. It is no
// proof that the run will never start: a later send of the same id runs. After
// an abort use a new session key.
func (c *Conn) AbortSession(ctx context.Context, key, runID string, clearQueued bool) (Aborted, error) {
	params := map[string]any{"key": key}
	if runID != "" {
		params["runId"] = runID
	}
	if clearQueued {
		params["clearQueued"] = true
	}
	var w struct {
		Status string `json:"status"`
		RunID  string `json:"abortedRunId"`
	}
	if err := c.Call(ctx, "sessions.abort", params, &w); err != nil {
		return Aborted{}, err
	}
	return Aborted{Status: clean(w.Status, 32), RunID: clean(w.RunID, maxRunID)}, nil
}

// DeleteSession removes a session and its transcript; false if there was none.
func (c *Conn) DeleteSession(ctx context.Context, key string) (bool, error) {
	var w struct {
		Deleted *bool `json:"deleted"`
	}
	if err := c.Call(ctx, "sessions.delete", map[string]any{"key": key, "deleteTranscript": true}, &w); err != nil {
		return false, err
	}
	if w.Deleted == nil {
		return false, &AnswerError{Method: "sessions.delete", Problem: "no deleted member"}
	}
	return *w.Deleted, nil
}
