package openclaw

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

// TeardownRequest says what to take away from a gateway.
type TeardownRequest struct {
	SessionKey string
	// Dispose deletes the session at the end.
	Dispose bool
}

// StepOutcome says how one step of a teardown ended.
type StepOutcome string

// Outcomes of a step.
const (
	StepDone    StepOutcome = "done"    // had its effect
	StepNothing StepOutcome = "nothing" // there was nothing to do
	StepOdd     StepOutcome = "odd"     // answered, but not in a shape we know
	StepFailed  StepOutcome = "failed"  // an error answer, or none
)

// TeardownStep is the report of one step: kill, status, cleanup or dispose.
type TeardownStep struct {
	Name    string
	Outcome StepOutcome
	Status  string // the gateway's word, if any
	Err     error  // with StepOdd and StepFailed
}

// TeardownReport is what a teardown achieved.
type TeardownReport struct {
	Steps []TeardownStep
	// Stopped is true only if the gateway said that nothing of the session
	// runs: by the kill or by the status after it.
	Stopped bool
	// Removed is true only if the session is known to be gone.
	Removed bool
}

// Err joins the errors of all steps; nil if every step was done or had nothing
// to do.
func (r TeardownReport) Err() error {
	errs := make([]error, 0, len(r.Steps))
	for _, s := range r.Steps {
		if s.Err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", s.Name, s.Err))
		}
	}
	return errors.Join(errs...)
}

// stepTimeout bounds each step of a teardown: four have 15 seconds.
const stepTimeout = 3750 * time.Millisecond

// Teardown stops what runs in a session, looks whether it stopped, clears what
// waits behind it and, if asked, deletes the session. A step that fails, or is
// answered with nonsense, never keeps the next one from being tried; only the
// end of ctx does. Repeating a teardown is harmless.
func (c *Conn) Teardown(ctx context.Context, req TeardownRequest) TeardownReport {
	return tearDown(ctx, c, req)
}

// caller is the one method that a teardown needs. A Conn is one.
type caller interface {
	Call(ctx context.Context, method string, params, out any) error
}

func tearDown(ctx context.Context, c caller, req TeardownRequest) TeardownReport {
	t := &teardown{caller: c, req: req}
	t.kill(ctx)
	t.status(ctx)
	t.cleanup(ctx)
	if req.Dispose {
		t.dispose(ctx)
	}
	return t.report
}

type teardown struct {
	caller  caller
	req     TeardownRequest
	report  TeardownReport
	running bool // the status said so
}

// step makes one call and files what came of it. read sorts the answer.
func (t *teardown) step(ctx context.Context, name, method string, params map[string]any, read func(answer) (StepOutcome, string)) {
	ctx, cancel := context.WithTimeout(ctx, stepTimeout)
	defer cancel()
	s := TeardownStep{Name: name}
	var raw json.RawMessage
	err := t.caller.Call(ctx, method, params, &raw)
	var odd *AnswerError
	switch {
	case errors.As(err, &odd):
		s.Outcome, s.Err = StepOdd, err
	case err != nil:
		s.Outcome, s.Err = StepFailed, err
	default:
		a := answer(raw)
		var problem string
		s.Status = a.status()
		if s.Outcome, problem = read(a); problem != "" {
			s.Err = &AnswerError{Method: method, Problem: problem}
		}
	}
	t.report.Steps = append(t.report.Steps, s)
}

func (t *teardown) kill(ctx context.Context) {
	t.abort(ctx, "kill", func() bool { return true })
}

// cleanup stops what slipped in between: a run that was queued, or one of the
// gateway's own after a crash.
func (t *teardown) cleanup(ctx context.Context) {
	t.abort(ctx, "cleanup", func() bool { return !t.running })
}

// abort stops whatever is active in the session and what waits behind it; idle
// says whether "nothing to abort" proves that the session is idle.
func (t *teardown) abort(ctx context.Context, step string, idle func() bool) {
	t.step(ctx, step, "sessions.abort", map[string]any{"key": t.req.SessionKey, "clearQueued": true}, func(a answer) (StepOutcome, string) {
		return t.readAbort(a, idle())
	})
}

func (t *teardown) readAbort(a answer, idle bool) (StepOutcome, string) {
	if problem := a.problem(); problem != "" {
		return StepOdd, problem
	}
	switch a.status() {
	case "aborted":
		t.report.Stopped = true
		return StepDone, ""
	case "no-active-run":
		t.report.Stopped = t.report.Stopped || idle
		return StepNothing, ""
	}
	if stopped, known := a.flag("aborted"); known {
		t.report.Stopped = t.report.Stopped || stopped || idle
		if stopped {
			return StepDone, ""
		}
		return StepNothing, ""
	}
	return StepOdd, "no status that says whether anything was stopped"
}

func (t *teardown) status(ctx context.Context) {
	t.step(ctx, "status", "sessions.describe", map[string]any{"key": t.req.SessionKey}, func(a answer) (StepOutcome, string) {
		if problem := a.problem(); problem != "" {
			return StepOdd, problem
		}
		if v, there := a.member("session"); there && missing(v) {
			t.report.Stopped, t.report.Removed = true, true
			return StepNothing, ""
		}
		switch a.status() {
		case "":
			return StepOdd, "no status at the top, in session or in metadata"
		case "running", "queued", "pending":
			t.report.Stopped, t.running = false, true
			return StepDone, ""
		}
		t.report.Stopped = true
		return StepDone, ""
	})
}

func (t *teardown) dispose(ctx context.Context) {
	params := map[string]any{"key": t.req.SessionKey, "deleteTranscript": true}
	t.step(ctx, "dispose", "sessions.delete", params, func(a answer) (StepOutcome, string) {
		if problem := a.problem(); problem != "" {
			return StepOdd, problem
		}
		deleted, known := a.flag("deleted")
		switch {
		case !known:
			return StepOdd, "no deleted member"
		case deleted:
			t.report.Removed = true
			return StepDone, ""
		}
		t.report.Removed = true // there was none
		return StepNothing, ""
	})
}

// answer is a payload whose shape is not trusted.
type answer []byte

// member finds a member at the top level.
func (a answer) member(name string) ([]byte, bool) {
	if !isObject(a) {
		return nil, false
	}
	it := object(a, DefaultMaxDepth)
	var val []byte
	found := false
	for it.next() {
		if string(it.key) == name {
			val, found = it.val, true
		}
	}
	return val, found && it.err == nil
}

// wrappers are where versions and plugins put what belongs to the top level.
var wrappers = [...]string{"session", "metadata", "meta", "entry", "result"}

// find looks at the top level first, then one level down.
func (a answer) find(name string) ([]byte, bool) {
	if v, ok := a.member(name); ok && !missing(v) {
		return v, true
	}
	for _, w := range wrappers {
		if inner, ok := a.member(w); ok {
			if v, ok := answer(inner).member(name); ok && !missing(v) {
				return v, true
			}
		}
	}
	return nil, false
}

// status is a text, wherever it is.
func (a answer) status() string {
	v, _ := a.find("status")
	s, _ := text(v)
	return clean(s, 64)
}

func (a answer) flag(name string) (val, known bool) {
	v, _ := a.find(name)
	return boolean(v)
}

// problem tells an error that came dressed as a payload.
func (a answer) problem() string {
	if missing(a) {
		return errNoPayload.Error()
	}
	if !isObject(a) {
		return "payload is no object"
	}
	if v, ok := a.member("ok"); ok {
		if good, known := boolean(v); known && !good {
			return "the payload says it is not ok" + a.reason()
		}
	}
	if v, ok := a.member("error"); ok && !missing(v) {
		return "the payload is an error" + a.reason()
	}
	return ""
}

// reason is the text of an error member, a string or an object with a message.
func (a answer) reason() string {
	v, _ := a.member("error")
	s, ok := text(v)
	if !ok {
		if m, found := answer(v).member("message"); found {
			s, _ = text(m)
		}
	}
	if s == "" {
		return ""
	}
	return ": " + clean(s, maxErrText)
}
