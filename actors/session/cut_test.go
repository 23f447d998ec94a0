package session

import (
	"context"
	"testing"
	"time"

	"github.com/dash-fleet/dash/actors/openclaw"
)

// TestACutAnswerIsMarked: whichever way the text came, its whole length stays
// with it.
func TestACutAnswerIsMarked(t *testing.T) {
	t.Parallel()
	for _, cut := range []int{0, 5_000_000} {
		e, _ := answer(1, openclaw.AgentAnswer{Kind: openclaw.AnswerFinal, Text: "x", CutFrom: cut})
		if got := e.(Answer).Result.GetCutFrom(); got != int64(cut) {
			t.Errorf("answered: cut from %d, want %d", got, cut)
		}
		list := turns([]openclaw.HistoryItem{{Role: "user", RunID: "r"}, {Role: "assistant", Text: "x", CutFrom: cut}})
		if got := list[0].Reply.GetCutFrom(); len(list) != 1 || got != int64(cut) {
			t.Errorf("from the transcript: cut from %d, want %d", got, cut)
		}
		s := openclaw.RunStatus{Status: "ok", Ended: time.Now(), Text: "x", HasText: true, CutFrom: cut}
		w, err := wait(t.Context(), waited{status: s}, Wait{RunID: "r"})
		if err != nil || w.(WaitAnswer).Result.GetCutFrom() != int64(cut) {
			t.Errorf("from agent.wait: %+v, %v, want cut from %d", w, err, cut)
		}
	}
}

// waited is a link whose gateway knows how a run ended.
type waited struct {
	Link
	status openclaw.RunStatus
}

func (w waited) Wait(context.Context, string, time.Duration) (openclaw.RunStatus, error) {
	return w.status, nil
}
