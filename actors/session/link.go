package session

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/dash-fleet/dash/actors/openclaw"
	"github.com/dash-fleet/dash/messages"
)

// Link is what a session asks of the connection to its gateway. Every call
// honours ctx; *openclaw.Conn is one.
type Link interface {
	Wait(ctx context.Context, runID string, timeout time.Duration) (openclaw.RunStatus, error)
	History(ctx context.Context, sessionKey string, limit int) (openclaw.History, error)
	Session(ctx context.Context, key string) (openclaw.Session, bool, error)
	SubAgents(ctx context.Context, sessionKey string) (openclaw.SubAgents, error)
	AbortSession(ctx context.Context, key, runID string, clearQueued bool) (openclaw.Aborted, error)
	DeleteSession(ctx context.Context, key string) (bool, error)
	Teardown(ctx context.Context, req openclaw.TeardownRequest) openclaw.TeardownReport
}

// historyTail is how many items of a transcript are read: one turn has a
// handful (user text, tool calls, reply), a re-run a few more.
const historyTail = 200

// read carries out a ReadSession.
func read(ctx context.Context, l Link, conn Conn, key string) (Event, error) {
	row, found, err := l.Session(ctx, key)
	if err != nil {
		return nil, err
	}
	h, err := l.History(ctx, key, historyTail)
	if err != nil {
		return nil, err
	}
	s := SessionRead{Conn: conn, Key: key}
	if found {
		s.ActiveRuns = row.ActiveRunIDs
		s.Busy = row.Status == "running" || row.Status == "queued" || row.HasActiveRun || len(row.ActiveRunIDs) > 0
		s.AbortedLastRun = row.RerunPending()
	}
	// OpenClaw 2026.9.6 leaves activeRunIds out of the row while a turn runs;
	// its history names the run instead.
	s.Busy = s.Busy || h.Active
	if f := h.InFlight; f != nil && !slices.Contains(s.ActiveRuns, f.RunID) {
		s.ActiveRuns = append(slices.Clone(s.ActiveRuns), f.RunID)
	}
	// The gateway's turns for sub-agents are no re-run of anything.
	s.ActiveRuns = slices.DeleteFunc(slices.Clone(s.ActiveRuns), openclaw.Announces)
	s.Turns, s.More = turns(h.Items), h.HasMore
	for _, p := range h.Pending {
		s.Pending = append(s.Pending, p.RunID)
	}
	agents, err := l.SubAgents(ctx, key)
	var rpc *openclaw.RPCError
	if errors.As(err, &rpc) && !rpc.Unavailable() {
		err = nil // it has no such list
	}
	if err != nil {
		return nil, err
	}
	s.SubAgents, s.FailedSubAgents = agents.Working, agents.Failed
	return s, nil
}

// turns groups a transcript by its user texts.
func turns(items []openclaw.HistoryItem) []Turn {
	var out []Turn
	for _, it := range items {
		if it.Role == "user" {
			out = append(out, Turn{RunID: it.RunID, Bare: true})
			continue
		}
		if len(out) == 0 {
			continue
		}
		t := &out[len(out)-1]
		t.Bare = false
		switch {
		case !it.IsReply():
		case openclaw.Announces(it.By):
			if !openclaw.Silent(it.Text) {
				t.Late = append(t.Late, it.Text)
			}
		default:
			// A transcript counts single model calls, not runs: the cost is unknown.
			t.Reply = result(it.Text, it.CutFrom, nil)
		}
	}
	return out
}

// wait carries out a Wait.
func wait(ctx context.Context, l Link, e Wait) (Event, error) {
	s, err := l.Wait(ctx, e.RunID, e.Timeout)
	if err != nil {
		return nil, err
	}
	w := WaitAnswer{Conn: e.Conn, RunID: e.RunID, Kind: Open}
	switch {
	case !s.Over():
	case s.Succeeded() && s.HasText:
		w.Kind, w.Result = Success, result(s.Text, s.CutFrom, nil)
	case s.Succeeded():
		// It ended well, but the text is only in the transcript.
		return RunEnded{Conn: e.Conn, RunID: e.RunID}, nil
	default:
		w.Kind, w.Error, w.Off = failureOf(s.Failure())
		if w.Kind == Refused {
			w.Kind = Failed // agent.wait tells of a run that was taken
		}
	}
	return w, nil
}

// abort carries out an Abort.
func abort(ctx context.Context, l Link, e Abort) (Event, error) {
	a, err := l.AbortSession(ctx, e.Key, "", true)
	if err != nil && !unreadable(err) {
		return nil, err
	}
	// An answer that cannot be used confirms nothing, and keeps nothing from
	// being asked next.
	out := AbortAnswer{Conn: e.Conn}
	if a.Stopped() {
		out.Runs = []string{a.RunID}
	}
	return out, nil
}

// TroubleKind says what slows down.
type TroubleKind uint8

// Kinds of trouble.
const (
	NoTrouble TroubleKind = iota
	ProviderTrouble
	AuthTrouble // the gateway has switched Provider off for Pause
	TimeoutTrouble
)

// Trouble is a sign that a gateway or its provider slows down.
type Trouble struct {
	Kind     TroubleKind
	Provider string // empty: the gateway did not name it
	Pause    time.Duration
	Why      string
}

// answer translates an agent answer; nil means that it says nothing the
// machine does not learn otherwise.
func answer(conn Conn, a openclaw.AgentAnswer) (Event, Trouble) {
	out := Answer{Conn: conn, RunID: a.RunID}
	switch a.Kind {
	case openclaw.AnswerAccepted:
		out.Kind = Accepted
	case openclaw.AnswerInFlight:
		out.Kind = InFlight
	case openclaw.AnswerFinal:
		out.Kind = Success
		out.Result, out.Spawned = result(a.Text, a.CutFrom, usage(a.Usage)), a.Spawned
	case openclaw.AnswerLost:
		if !a.Written {
			return NotSent{Conn: conn}, Trouble{}
		}
		return nil, Trouble{}
	case openclaw.AnswerFailed:
		if a.Failure.Class == openclaw.ClassUnknown && !a.Failure.Final {
			// Unusable words: the transcript tells what really happened.
			return RunEnded{Conn: conn, RunID: a.RunID}, Trouble{}
		}
		out.Kind, out.Error, out.Off = failureOf(a.Failure)
		out.Vague = a.Failure.Class == openclaw.ClassUnknown
		return out, trouble(a.Failure)
	}
	return out, Trouble{}
}

// result is an answer as it is stored; cutFrom is the length of one that was
// too long, else 0.
func result(text string, cutFrom int, u *messages.Usage) *messages.TaskResult {
	return &messages.TaskResult{Text: text, CutFrom: int64(cutFrom), Usage: u}
}

// usage counts the same for all providers: input is all that the model read.
func usage(u *openclaw.Usage) *messages.Usage {
	if u == nil {
		return nil
	}
	return &messages.Usage{Input: u.Input + u.CacheRead + u.CacheWrite, Output: u.Output, CachedInput: u.CacheRead, CacheWrite: u.CacheWrite}
}

// codes say what a class of failures means for a task, and whether another
// attempt may go better. What is unknown may.
var codes = map[openclaw.FailureClass]struct {
	code  messages.Code
	retry bool
}{
	openclaw.ClassUnavailable: {messages.CodeUnavailable, true},
	openclaw.ClassProvider:    {messages.CodeProvider, true},
	openclaw.ClassAuth:        {messages.CodeProviderAuth, true},
	openclaw.ClassTimeout:     {messages.CodeRunTimeout, true},
	openclaw.ClassEmpty:       {messages.CodeEmptyAnswer, true},
	openclaw.ClassUnknown:     {messages.CodeProvider, true},
	openclaw.ClassInvalid:     {messages.CodeProviderRejected, false},
	openclaw.ClassFilter:      {messages.CodeContentFilter, false},
	openclaw.ClassRefused:     {messages.CodeRefused, false},
	openclaw.ClassOverflow:    {messages.CodeContextOverflow, false},
	openclaw.ClassModel:       {messages.CodeModelUnknown, false},
}

// failureOf translates a failure. off is how long the gateway will not ask the
// provider that it did not ask for this run.
func failureOf(f *openclaw.Failure) (k Kind, e *messages.TaskError, off time.Duration) {
	switch f.Class {
	case openclaw.ClassAborted:
		return Aborted, nil, 0
	case openclaw.ClassUnavailable:
		k = Refused
	case openclaw.ClassTimeout:
		k = TimedOut
	default:
		k = Failed
	}
	c := codes[f.Class]
	if f.Class == openclaw.ClassInvalid && f.BeforeAccept {
		c.code = messages.CodeGatewayInvalid
	}
	e = taskError(c.code, f.Message, c.retry)
	e.Usage = usage(f.Usage)
	if f.NoCall {
		off = max(f.Pause, time.Second)
	}
	return k, e, off
}

func trouble(f *openclaw.Failure) Trouble {
	switch f.Class {
	case openclaw.ClassProvider:
		return Trouble{Kind: ProviderTrouble}
	case openclaw.ClassAuth:
		return Trouble{Kind: AuthTrouble, Provider: f.Provider, Pause: f.Pause, Why: f.Message}
	case openclaw.ClassTimeout:
		return Trouble{Kind: TimeoutTrouble}
	}
	return Trouble{}
}

func taskError(code messages.Code, text string, retryable bool) *messages.TaskError {
	if text == "" {
		text = "the gateway gave no reason"
	}
	return &messages.TaskError{Code: string(code), Message: text, Retryable: retryable}
}

// unreadable reports whether an error of a call is the session's own fault: an
// answer that cannot be used, or a refusal. A lost or busy connection is not.
func unreadable(err error) bool {
	var rpc *openclaw.RPCError
	var odd *openclaw.AnswerError
	if errors.As(err, &rpc) {
		return !rpc.Unavailable()
	}
	return errors.As(err, &odd)
}
