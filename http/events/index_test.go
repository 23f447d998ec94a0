package events

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/dash-fleet/dash/messages"
)

func taskEvent(seq int64, task string) *messages.Event {
	return &messages.Event{Seq: seq, Subject: task, Data: &messages.Event_Task{Task: &messages.TaskChanged{State: "queued"}}}
}

func runIndex(t *testing.T, log Log, size int) *index {
	t.Helper()
	x := newIndex(log, 100, time.Second, size)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); x.run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
	return x
}

// TestIndex finds what a plain search of the log finds, as far back as it says.
func TestIndex(t *testing.T) {
	t.Parallel()
	const size, past, live = 1000, 2500, 1200
	s := &script{live: make(chan *messages.Event, live)}
	for seq := int64(1); seq <= past; seq++ {
		s.entries = append(s.entries, taskEvent(seq, fmt.Sprint("t-", seq*seq%37)))
	}
	x := runIndex(t, s, size)
	check := func(to int64) {
		t.Helper()
		for _, since := range []int64{0, to - size/2, to - 1, to} {
			for n := range 38 {
				task := fmt.Sprint("t-", n)
				got, from, err := x.find(t.Context(), task, since, to)
				if err != nil {
					t.Fatal(err)
				}
				if from < to-size || from > to-size+1 {
					t.Fatalf("of %d entries those behind %d are known", to, from)
				}
				var want []int64
				for seq := max(since, from) + 1; seq <= to; seq++ {
					if fmt.Sprint("t-", seq*seq%37) == task {
						want = append(want, seq)
					}
				}
				if !slices.Equal(got, want) {
					t.Fatalf("%s behind %d: %v, want %v", task, since, got, want)
				}
			}
		}
	}
	check(past)
	for seq := int64(past + 1); seq <= past+live; seq++ {
		s.live <- taskEvent(seq, fmt.Sprint("t-", seq*seq%37))
	}
	check(past + live)
	if n := len(x.order); n > 2*size+1 {
		t.Errorf("%d places are kept for %d", n, size)
	}
}

// swept is a log whose entries are all gone.
type swept struct{ *script }

func (swept) LastSeq(context.Context) (int64, error) { return 7000, nil }

func TestIndexOfASweptLog(t *testing.T) {
	t.Parallel()
	x := runIndex(t, swept{&script{live: make(chan *messages.Event)}}, 100)
	if got, from, err := x.find(t.Context(), "t", 0, 7000); err != nil || len(got) != 0 || from != 6900 {
		t.Errorf("%v behind %d, %v", got, from, err)
	}
}

// TestPagesOfThePastAreCounted: each page beyond the first waits for its turn, and
// the watcher is not deaf meanwhile.
func TestPagesOfThePastAreCounted(t *testing.T) {
	t.Parallel()
	s := &script{live: make(chan *messages.Event)}
	for seq := int64(1); seq <= 4*pageSize; seq++ {
		s.write(seq)
	}
	asked := 0
	f := &follower{log: s, buffer: 100, timeout: time.Second, pay: func(context.Context) time.Duration {
		if asked++; asked%2 == 1 {
			return time.Hour
		}
		return 0
	}}
	now := make(chan time.Time)
	close(now)
	pages, waits := 0, 0
	for pages < 4 {
		events, _, err := f.next(t.Context(), now, nil)
		if err != nil {
			t.Fatal(err)
		}
		if len(events) == 0 {
			waits++
		} else {
			pages++
		}
	}
	if asked != 6 || waits != 3 {
		t.Errorf("4 pages were counted %d times and waited %d times", asked, waits)
	}
}
