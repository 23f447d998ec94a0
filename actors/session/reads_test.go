package session

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/dash-fleet/dash/actors/openclaw"
	"github.com/dash-fleet/dash/messages"
)

// transcript is a gateway with one long reply; at is told when it is asked.
type transcript struct {
	Link
	text string
	at   chan struct{}
}

func (transcript) Session(context.Context, string) (openclaw.Session, bool, error) {
	return openclaw.Session{}, false, nil
}

func (l transcript) History(context.Context, string, int) (openclaw.History, error) {
	l.at <- struct{}{}
	return openclaw.History{Items: []openclaw.HistoryItem{{Role: "user", RunID: "t.1"}, {Role: "assistant", Text: l.text}}}, nil
}

func (transcript) SubAgents(context.Context, string) (openclaw.SubAgents, error) {
	return openclaw.SubAgents{}, nil
}

// Transcripts are read in turn, and what was read waits for room with its place
// taken: many at once would be more than fits.
func TestTranscriptsAreReadInTurn(t *testing.T) {
	t.Parallel()
	places, room := make(chan struct{}, 1), make(chan error)
	held := make(chan int, 2)
	hold := func(_ context.Context, _ messages.ClaimRef, n int) error { held <- n; return <-room }
	s := &session{cfg: &Config{Reads: places, Hold: hold}}
	l := transcript{text: strings.Repeat("x", openclaw.FreeText+1), at: make(chan struct{}, 2)}
	results := make(chan error, 2)
	question := s.reading(ReadSession{Conn: 1, Key: "k"})
	for range 2 {
		go func() {
			_, err := question(t.Context(), l)
			results <- err
		}()
	}
	if n := <-held; n != openclaw.FreeText+1 {
		t.Errorf("room for %d bytes was asked for", n)
	}
	if len(places) != 1 || len(l.at) != 1 || len(results) != 0 {
		t.Errorf("%d places are taken, %d were read, %d are over", len(places), len(l.at), len(results))
	}
	full := errors.New("full")
	room <- full
	if err := <-results; !errors.Is(err, full) {
		t.Errorf("without room: %v", err)
	}
	<-held // the second has its turn
	room <- nil
	if err := <-results; err != nil || len(places) != 0 {
		t.Errorf("with room: %v, %d places are taken", err, len(places))
	}
	places <- struct{}{}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := question(ctx, l); !errors.Is(err, context.Canceled) {
		t.Errorf("a question whose time is over: %v", err)
	}
}

// What was read is kept only if it ends the run.
func TestWhatWasReadIsGivenBack(t *testing.T) {
	t.Parallel()
	r := Start(claimedTask(), idleSession(), "", true)
	if r.keeps() {
		t.Error("a run that has read nothing keeps something")
	}
	for name, edit := range map[string]func(*Run){
		"an end":                 func(r *Run) { r.end = &ending{kind: Success} },
		"an answer":              func(r *Run) { r.answer = &messages.TaskResult{} },
		"a transcript, not used": func(r *Run) { r.read = &SessionRead{} },
	} {
		r := r
		if edit(&r); !r.keeps() {
			t.Errorf("%s is not counted", name)
		}
	}
}
