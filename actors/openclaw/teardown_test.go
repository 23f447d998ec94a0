package openclaw

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// script answers the steps of a teardown in order and records them.
type script struct {
	answers []any // a payload, or an error
	calls   []string
}

func (s *script) Call(_ context.Context, method string, params, out any) error {
	p, err := json.Marshal(params)
	if err != nil {
		return err
	}
	s.calls = append(s.calls, method+" "+string(p))
	if len(s.answers) == 0 {
		return fmt.Errorf("unexpected %s", method)
	}
	a := s.answers[0]
	s.answers = s.answers[1:]
	if err, bad := a.(error); bad {
		return err
	}
	payload := a.(string)
	if missing([]byte(payload)) {
		return &AnswerError{Method: method, Problem: "no payload"} // as Conn.Call does
	}
	*out.(*json.RawMessage) = json.RawMessage(payload)
	return nil
}

const (
	abortedNow = `{"ok":true,"abortedRunId":"r","status":"aborted"}`
	nothing    = `{"ok":true,"abortedRunId":null,"status":"no-active-run"}`
	done       = `{"session":{"key":"k","status":"done"}}`
	deleted    = `{"ok":true,"key":"k","deleted":true}`
)

var request4 = TeardownRequest{SessionKey: "k", Dispose: true}

func outcomes(r TeardownReport) string {
	s := ""
	for _, step := range r.Steps {
		s += fmt.Sprintf("%s=%s ", step.Name, step.Outcome)
	}
	return s + fmt.Sprintf("stopped=%v removed=%v", r.Stopped, r.Removed)
}

func TestTeardown(t *testing.T) {
	t.Parallel()
	rpc := &RPCError{Method: "x", Code: "UNAVAILABLE", Message: "no"}
	lost := &LostError{Method: "x", Written: true, Err: context.DeadlineExceeded}
	for _, tt := range []struct {
		name    string
		answers []any
		want    string
		err     bool
	}{
		{"all well", []any{abortedNow, done, nothing, deleted}, "kill=done status=done cleanup=nothing dispose=done stopped=true removed=true", false},
		{"nothing there", []any{nothing, `{"session":null}`, nothing, `{"deleted":false}`}, "kill=nothing status=nothing cleanup=nothing dispose=nothing stopped=true removed=true", false},
		{"status in metadata", []any{abortedNow, `{"metadata":{"status":"done"}}`, nothing, deleted}, "kill=done status=done cleanup=nothing dispose=done stopped=true removed=true", false},
		{"status at the top", []any{abortedNow, `{"status":"failed"}`, nothing, deleted}, "kill=done status=done cleanup=nothing dispose=done stopped=true removed=true", false},
		{"abort status in metadata", []any{`{"metadata":{"status":"aborted"}}`, done, nothing, deleted}, "kill=done status=done cleanup=nothing dispose=done stopped=true removed=true", false},
		{"older abort shape", []any{`{"ok":true,"aborted":true,"runIds":["r"]}`, done, nothing, deleted}, "kill=done status=done cleanup=nothing dispose=done stopped=true removed=true", false},
		{"still running", []any{abortedNow, `{"session":{"status":"running"}}`, nothing, deleted}, "kill=done status=done cleanup=nothing dispose=done stopped=false removed=true", false},
		{"slipped in between", []any{nothing, `{"session":{"status":"running"}}`, abortedNow, deleted}, "kill=nothing status=done cleanup=done dispose=done stopped=true removed=true", false},
		{"kill undefined", []any{"", done, nothing, deleted}, "kill=odd status=done cleanup=nothing dispose=done stopped=true removed=true", true},
		{"status undefined", []any{abortedNow, "null", nothing, deleted}, "kill=done status=odd cleanup=nothing dispose=done stopped=true removed=true", true},
		{"cleanup undefined", []any{abortedNow, done, "", deleted}, "kill=done status=done cleanup=odd dispose=done stopped=true removed=true", true},
		{"dispose undefined", []any{abortedNow, done, nothing, ""}, "kill=done status=done cleanup=nothing dispose=odd stopped=true removed=false", true},
		{"kill error", []any{rpc, done, nothing, deleted}, "kill=failed status=done cleanup=nothing dispose=done stopped=true removed=true", true},
		{"status error", []any{nothing, rpc, nothing, deleted}, "kill=nothing status=failed cleanup=nothing dispose=done stopped=true removed=true", true},
		{"cleanup error", []any{abortedNow, done, rpc, deleted}, "kill=done status=done cleanup=failed dispose=done stopped=true removed=true", true},
		{"dispose error", []any{abortedNow, done, nothing, rpc}, "kill=done status=done cleanup=nothing dispose=failed stopped=true removed=false", true},
		{"all undefined", []any{"", "", "", ""}, "kill=odd status=odd cleanup=odd dispose=odd stopped=false removed=false", true},
		{"all errors", []any{rpc, rpc, rpc, rpc}, "kill=failed status=failed cleanup=failed dispose=failed stopped=false removed=false", true},
		{"all lost", []any{lost, ErrClosed, ErrBusy, lost}, "kill=failed status=failed cleanup=failed dispose=failed stopped=false removed=false", true},
		{"errors dressed as payloads", []any{`{"ok":false}`, `{"error":"no"}`, `{"error":{"message":"no"}}`, `{"ok":false,"error":"no","deleted":true}`},
			"kill=odd status=odd cleanup=odd dispose=odd stopped=false removed=false", true},
		{"all odd types", []any{`[]`, `7`, `"x"`, `{"deleted":"yes"}`}, "kill=odd status=odd cleanup=odd dispose=odd stopped=false removed=false", true},
		{"odd members", []any{`{"status":7}`, `{"session":7}`, `{"status":"surprise"}`, `{}`}, "kill=odd status=odd cleanup=odd dispose=odd stopped=false removed=false", true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := &script{answers: tt.answers}
			r := tearDown(t.Context(), s, request4)
			if got := outcomes(r); got != tt.want {
				t.Errorf("got  %s\nwant %s", got, tt.want)
			}
			if (r.Err() != nil) != tt.err {
				t.Errorf("err %v, want one: %v", r.Err(), tt.err)
			}
			want := []string{
				`sessions.abort {"clearQueued":true,"key":"k"}`,
				`sessions.describe {"key":"k"}`,
				`sessions.abort {"clearQueued":true,"key":"k"}`,
				`sessions.delete {"deleteTranscript":true,"key":"k"}`,
			}
			if diff := cmp.Diff(want, s.calls); diff != "" {
				t.Errorf("calls (-want +got)\n%s", diff)
			}
		})
	}
}

func TestTeardownKeepsTheSessionUnlessAsked(t *testing.T) {
	t.Parallel()
	s := &script{answers: []any{abortedNow, done, nothing}}
	r := tearDown(t.Context(), s, TeardownRequest{SessionKey: "k"})
	if got, want := outcomes(r), "kill=done status=done cleanup=nothing stopped=true removed=false"; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

// Over a real connection: error envelopes and undefined payloads at each step,
// and then a link that is gone.
func TestTeardownOverAConnection(t *testing.T) {
	t.Parallel()
	cfg := serve(t, func(p *peer) {
		for i := range 4 {
			r, ok := p.recv()
			if !ok {
				return
			}
			if i%2 == 0 {
				p.send(`{"type":"res","id":"` + r.ID + `","ok":true}`)
			} else {
				p.send(`{"type":"res","id":"` + r.ID + `","ok":false}`)
			}
		}
	})
	c := dial(t, cfg, nil)
	want := "kill=odd status=failed cleanup=odd dispose=failed stopped=false removed=false"
	if got := outcomes(c.Teardown(t.Context(), request4)); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	nextOf(t, c.Done())
	r := c.Teardown(t.Context(), request4)
	if len(r.Steps) != 4 || !errors.Is(r.Err(), ErrClosed) {
		t.Errorf("after the end: %s %v", outcomes(r), r.Err())
	}
}
