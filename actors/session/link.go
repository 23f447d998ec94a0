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
	AbortSession(ctx context.Context, key, runID string, clearQueued bool) (openclaw.Aborted, error)
	DeleteSession(ctx context.Context, key string) (bool, error)
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
		s.Busy = row.Status == "running" || row.Status == "queued" || row.HasActiveRun
		s.AbortedLastRun = row.AbortedLastRun
	}
	// OpenClaw 2026.9.6 leaves activeRunIds out of the row while a turn runs;
	// its history names the run instead.
	s.Busy = s.Busy || h.Active
	if f := h.InFlight; f != nil && !slices.Contains(s.ActiveRuns, f.RunID) {
		s.ActiveRuns = append(slices.Clone(s.ActiveRuns), f.RunID)
	}
	s.Turns, s.More = turns(h.Items), h.HasMore
	for _, p := range h.Pending {
		s.Pending = append(s.Pending, p.RunID)
	}
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
		if it.IsReply() {
			t.Reply = &messages.TaskResult{Text: it.Text, InputTokens: it.Usage.Input, OutputTokens: it.Usage.Output}
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
		w.Kind, w.Result = Success, &messages.TaskResult{Text: s.Text}
	case s.Succeeded():
		// It ended well, but the text is only in the transcript.
		return RunEnded{Conn: e.Conn, RunID: e.RunID}, nil
	case s.Aborted():
		w.Kind = Aborted
	case s.Status == "timeout":
		w.Kind, w.Error = TimedOut, taskError(messages.CodeRunTimeout, s.Error, true)
	default:
		w.Kind, w.Error = Failed, taskError(messages.CodeProvider, s.Error, true)
	}
	return w, nil
}

// abort carries out an Abort.
func abort(ctx context.Context, l Link, e Abort) (Event, error) {
	a, err := l.AbortSession(ctx, e.Key, "", true)
	if err != nil {
		return nil, err
	}
	out := AbortAnswer{Conn: e.Conn}
	if a.Stopped() {
		out.Runs = []string{a.RunID}
	}
	return out, nil
}

// Trouble is a sign that a gateway or its provider slows down.
type Trouble uint8

// Kinds of trouble.
const (
	NoTrouble Trouble = iota
	ProviderTrouble
	AuthTrouble
	TimeoutTrouble
)

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
		out.Result = &messages.TaskResult{Text: a.Text, InputTokens: a.Usage.Input, OutputTokens: a.Usage.Output}
	case openclaw.AnswerLost:
		if !a.Written {
			return NotSent{Conn: conn}, NoTrouble
		}
		return nil, NoTrouble
	case openclaw.AnswerFailed:
		return failed(out, a.Failure)
	}
	return out, NoTrouble
}

func failed(out Answer, f *openclaw.Failure) (Event, Trouble) {
	out.Kind = Failed
	switch f.Class {
	case openclaw.ClassUnavailable:
		out.Kind, out.Error = Refused, taskError(messages.CodeUnavailable, f.Message, true)
		return out, NoTrouble
	case openclaw.ClassProvider:
		out.Error = taskError(messages.CodeProvider, f.Message, true)
		return out, ProviderTrouble
	case openclaw.ClassAuth:
		out.Error = taskError(messages.CodeProviderAuth, f.Message, true)
		return out, AuthTrouble
	case openclaw.ClassInvalid:
		code := messages.CodeProviderRejected
		if f.BeforeAccept {
			code = messages.CodeGatewayInvalid
		}
		out.Error = taskError(code, f.Message, false)
		return out, NoTrouble
	case openclaw.ClassTimeout:
		out.Kind, out.Error = TimedOut, taskError(messages.CodeRunTimeout, f.Message, true)
		return out, TimeoutTrouble
	case openclaw.ClassAborted:
		out.Kind = Aborted
		return out, NoTrouble
	}
	// Unusable or unknown words: the transcript tells what really happened.
	return RunEnded{Conn: out.Conn, RunID: out.RunID}, NoTrouble
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
