package gateway

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/dash-fleet/dash/actors/openclaw"
	"github.com/dash-fleet/dash/messages"
)

func claimOf(i int) messages.ClaimRef { return messages.ClaimRef{Task: fmt.Sprint("t", i), Claim: 1} }

// Replies of one gateway wait for room, and one is always taken.
func TestRepliesWaitForRoom(t *testing.T) {
	t.Parallel()
	m := NewMemory(nil)
	r := newRoom(m)
	now, cancel := context.WithCancel(t.Context())
	cancel() // an attempt that does not wait
	for i := range 4 {
		r.open(claimOf(i))
	}
	if err := r.hold(now, claimOf(0), 2*maxReplies); err != nil {
		t.Errorf("the first: %v", err)
	}
	if err := r.hold(now, claimOf(1), 1); !errors.Is(err, errNoRoom) {
		t.Errorf("one beside it: %v", err)
	}
	if err := r.hold(now, claimOf(9), maxReplies); err != nil {
		t.Errorf("of a claim that is not open: %v", err)
	}
	done := make(chan error, 1)
	go func() { done <- r.hold(t.Context(), claimOf(1), maxReplies/2) }()
	r.close(claimOf(0))
	if err := <-done; err != nil {
		t.Errorf("after room was made: %v", err)
	}
	if err := r.hold(now, claimOf(1), maxReplies/2); err != nil || r.sum != maxReplies/2 {
		t.Errorf("the same again: %v, %d bytes", err, r.sum)
	}
	if err := r.hold(now, claimOf(2), maxReplies/2); err != nil {
		t.Errorf("up to the limit: %v", err)
	}
	if err := r.hold(now, claimOf(3), 1); err == nil {
		t.Error("more than the limit was taken")
	}
	if got := testutil.ToFloat64(m.gauge); got != maxReplies {
		t.Errorf("the metric says %v", got)
	}
	r.free(claimOf(1))
	r.clear()
	if r.sum != 0 || m.kept != 0 {
		t.Errorf("%d and %d bytes are left", r.sum, m.kept)
	}
}

// What gateways keep together is bounded, and none is kept out by the others.
func TestAllGatewaysShareTheRoom(t *testing.T) {
	t.Parallel()
	m := NewMemory(nil)
	now, cancel := context.WithCancel(t.Context())
	cancel()
	const each = maxReplies / 2
	rooms := make([]*room, 2*maxAllReplies/maxReplies)
	full := 0
	for i := range rooms {
		rooms[i] = newRoom(m)
		for j := range 2 {
			rooms[i].open(claimOf(j))
			err := rooms[i].hold(now, claimOf(j), each)
			if j == 0 && err != nil {
				t.Errorf("gateway %d has no room for one reply: %v", i, err)
			}
			if err != nil {
				full++
			}
		}
	}
	if full == 0 || m.kept > maxAllReplies+len(rooms)*each {
		t.Errorf("%d were kept out, %d bytes are kept", full, m.kept)
	}
}

// The running texts of one gateway are bounded: the oldest are cut and marked, and
// whole again with their next text. None of another claim is touched.
func TestRunningTextsAreBounded(t *testing.T) {
	t.Parallel()
	seen, cut := map[string]string{}, NewMetrics(nil).cutTexts
	r := newRoutes(func(task string, _ int64, text string) { seen[task] = text }, nil, cut)
	const runs = 300
	long := strings.Repeat("ä", openclaw.MaxRunText/2)
	for i := range runs {
		r.add(fmt.Sprint("r", i), route{ref: claimOf(i), own: true})
		r.say(openclaw.RunText{RunID: fmt.Sprint("r", i), Text: long})
	}
	sum, whole := 0, 0
	for i := range runs {
		text := seen[claimOf(i).Task]
		sum += len(text)
		switch {
		case text == long:
			whole++
		case !strings.HasPrefix(long, strings.TrimSuffix(text, textCut)) || !strings.HasSuffix(text, textCut):
			t.Fatalf("text %d is %.40q…%q", i, text, text[max(0, len(text)-40):])
		}
	}
	if sum > maxTexts || whole < maxTexts/openclaw.MaxRunText/2 || seen[claimOf(runs-1).Task] != long {
		t.Errorf("%d bytes of running texts, %d of them whole", sum, whole)
	}
	if r.texts.sum != sum || testutil.ToFloat64(cut) == 0 {
		t.Errorf("counted %d of %d bytes, %v cut", r.texts.sum, sum, testutil.ToFloat64(cut))
	}
	r.say(openclaw.RunText{RunID: "r0", Text: long})
	if seen[claimOf(0).Task] != long {
		t.Error("a text that was cut stays so")
	}
	for i := range runs {
		r.remove(claimOf(i), []string{fmt.Sprint("r", i)})
	}
	if r.texts.sum != 0 || len(r.texts.of) != 0 {
		t.Errorf("%d bytes are left", r.texts.sum)
	}
}

// News that the gateway actor does not take are not collected: the reader waits,
// and stops waiting when the actor has ended.
func TestNewsAreBounded(t *testing.T) {
	t.Parallel()
	done := make(chan struct{})
	var waiting []news
	h := &handler{news: make(chan struct{}, maxNews), done: done, send: func(m any) { waiting = append(waiting, m.(news)) }}
	for range maxNews {
		h.SubAgent(openclaw.SubAgent{Key: "k", Parent: dashKeys + "x"})
	}
	over := make(chan struct{})
	go func() {
		defer close(over)
		h.SubAgent(openclaw.SubAgent{Key: "one more"}) // takes the place that is given back
		h.SubAgent(openclaw.SubAgent{Key: "another"})
	}()
	<-waiting[0].place
	close(done)
	select {
	case <-over:
	case <-time.After(20 * time.Second):
		t.Fatal("the reader waits for ever")
	}
	if len(waiting) > maxNews+1 {
		t.Errorf("%d messages wait", len(waiting))
	}
}
