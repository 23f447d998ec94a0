package session

import (
	"context"
	"errors"
	"testing"

	"github.com/dash-fleet/dash/actors/openclaw"
)

// aborter is a gateway that answers an abort with an error.
type aborter struct {
	Link
	err error
}

func (a aborter) AbortSession(context.Context, string, string, bool) (openclaw.Aborted, error) {
	return openclaw.Aborted{}, a.err
}

// TestAnOddAnswerToAnAbortKeepsNothingUp: the gateway was told; what it says to
// that confirms nothing, and the run is asked about next. No answer is another
// thing: it is told again.
func TestAnOddAnswerToAnAbortKeepsNothingUp(t *testing.T) {
	t.Parallel()
	for _, odd := range []error{
		&openclaw.AnswerError{Method: "sessions.abort", Problem: "no payload"},
		&openclaw.RPCError{Method: "sessions.abort", Code: "INVALID_REQUEST", Message: "no"},
	} {
		e, err := abort(t.Context(), aborter{err: odd}, Abort{Conn: 7, Key: "k"})
		if a, ok := e.(AbortAnswer); err != nil || !ok || a.Conn != 7 || len(a.Runs) > 0 {
			t.Errorf("%v: %#v, %v; want an answer that names no run", odd, e, err)
		}
	}
	for _, lost := range []error{
		&openclaw.LostError{Method: "sessions.abort", Err: context.DeadlineExceeded},
		&openclaw.RPCError{Method: "sessions.abort", Code: "UNAVAILABLE", Message: "draining", Retryable: true},
		openclaw.ErrBusy,
	} {
		if _, err := abort(t.Context(), aborter{err: lost}, Abort{Conn: 7, Key: "k"}); !errors.Is(err, lost) {
			t.Errorf("%v: %v", lost, err)
		}
	}
}
