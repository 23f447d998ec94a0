package events

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/dash-fleet/dash/messages"
)

// script is a log in memory. onSubscribe runs right before a watch begins.
type script struct {
	entries     []*messages.Event
	oldest      int64
	onSubscribe func(*script)
	live        chan *messages.Event
}

func (s *script) write(seq int64) *messages.Event {
	e := &messages.Event{Seq: seq}
	s.entries = append(s.entries, e)
	return e
}

func (s *script) Events(_ context.Context, since int64, limit int) (page []*messages.Event, oldest int64, err error) {
	for _, e := range s.entries {
		if e.Seq > since && e.Seq >= s.oldest && len(page) < limit {
			page = append(page, e)
		}
	}
	return page, s.oldest, nil
}

func (s *script) LastSeq(context.Context) (int64, error) {
	if len(s.entries) == 0 {
		return 0, nil
	}
	return s.entries[len(s.entries)-1].Seq, nil
}

func (s *script) Subscribe(int) Subscription {
	if f := s.onSubscribe; f != nil {
		s.onSubscribe = nil
		f(s)
	}
	return watch{s.live}
}

type watch struct{ c chan *messages.Event }

func (w watch) C() <-chan *messages.Event { return w.c }
func (w watch) Close()                    {}

// follow collects what a follower returns until it has nothing more.
func follow(t *testing.T, s *script, since int64) (seqs []int64, gaps []gap) {
	t.Helper()
	f := &follower{log: s, buffer: 100, timeout: time.Second, last: since}
	for range 100 {
		events, g, err := f.next(t.Context(), time.After(50*time.Millisecond), nil)
		if err != nil {
			t.Fatal(err)
		}
		if g != nil {
			gaps = append(gaps, *g)
		}
		for _, e := range events {
			seqs = append(seqs, e.Seq)
		}
		if g == nil && len(events) == 0 && len(s.live) == 0 {
			return seqs, gaps
		}
	}
	t.Fatal("it never comes to rest")
	return nil, nil
}

// TestNothingFallsBetweenPastAndPresent: an event is committed after the log was
// read and before the watch begins, so nobody is told of it; perhaps another one
// follows, which is in the log and in the watch.
func TestNothingFallsBetweenPastAndPresent(t *testing.T) {
	t.Parallel()
	for name, then := range map[string]func(*script){
		"and nothing follows": func(*script) {},
		"and one follows":     func(s *script) { s.live <- s.write(5) },
	} {
		s := &script{oldest: 1, live: make(chan *messages.Event, 100)}
		for seq := int64(1); seq <= 3; seq++ {
			s.write(seq)
		}
		s.onSubscribe = func(s *script) {
			s.write(4)
			then(s)
		}
		seqs, gaps := follow(t, s, 0)
		if want := []int64{1, 2, 3, 4, 5}[:len(s.entries)]; !slices.Equal(seqs, want) || len(gaps) != 0 {
			t.Errorf("%s: got %v with gaps %v, want %v", name, seqs, gaps, want)
		}
	}
}

// TestOneLostEventIsAGap as well as many are, and none is not.
func TestOneLostEventIsAGap(t *testing.T) {
	t.Parallel()
	for since, want := range map[int64][]gap{3: {{from: 4, to: 4, resume: 4}}, 2: {{from: 3, to: 4, resume: 4}}, 4: nil} {
		s := &script{oldest: 5, live: make(chan *messages.Event, 100)}
		for seq := int64(1); seq <= 6; seq++ {
			s.write(seq)
		}
		seqs, gaps := follow(t, s, since)
		if !slices.Equal(gaps, want) || !slices.Equal(seqs, []int64{5, 6}) {
			t.Errorf("since %d: %v with gaps %v, want 5 and 6 with %v", since, seqs, gaps, want)
		}
	}
}

// TestHoleBeforeALiveEvent: what is missing comes from the log, and what the log no
// longer holds is a gap.
func TestHoleBeforeALiveEvent(t *testing.T) {
	t.Parallel()
	s := &script{oldest: 1, live: make(chan *messages.Event, 100)}
	f := &follower{log: s, buffer: 100, timeout: time.Second}
	var seqs []int64
	var gaps []gap
	rest := func() {
		t.Helper()
		for {
			events, g, err := f.next(t.Context(), time.After(20*time.Millisecond), nil)
			switch {
			case err != nil:
				t.Fatal(err)
			case g != nil:
				gaps = append(gaps, *g)
			case len(events) == 0:
				return
			}
			for _, e := range events {
				seqs = append(seqs, e.Seq)
			}
		}
	}
	s.write(1)
	rest()
	s.write(2)
	s.write(3)
	s.live <- s.write(4)
	s.live <- s.write(5)
	rest()
	for seq := int64(6); seq <= 8; seq++ {
		s.write(seq)
	}
	s.oldest = 8
	s.live <- s.write(9)
	rest()
	if !slices.Equal(seqs, []int64{1, 2, 3, 4, 5, 8, 9}) || !slices.Equal(gaps, []gap{{from: 6, to: 7, resume: 7}}) {
		t.Errorf("%v with gaps %v", seqs, gaps)
	}
}
