package storetest

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/persistence"
)

var eventTests = map[string]func(*testing.T, Engine){
	"numbered in commit order":       eventOrder,
	"resume from any point":          eventResume,
	"events of skipped ops are none": eventSkipped,
	"contiguous under concurrency":   eventConcurrent,
	"numbers go on after restart":    eventRestart,
	"all kinds come back whole":      eventKinds,
	"told of":                        eventTold,
}

func event(subject string) *messages.Event {
	return &messages.Event{TimeMicros: messages.Now().UnixMicro(), Tenant: "default", Type: "test.event", Subject: subject}
}

func events(n int, name string) []*messages.Event {
	list := make([]*messages.Event, n)
	for i := range list {
		list[i] = event(fmt.Sprintf("%s-%d", name, i))
	}
	return list
}

// log reads everything after since in pages.
func log(t testing.TB, e Engine, since int64, page int) []*messages.Event {
	t.Helper()
	var all []*messages.Event
	for {
		list, _, err := e.Store().Events(t.Context(), since, page)
		if err != nil {
			t.Fatalf("events: %v", err)
		}
		if len(list) == 0 {
			return all
		}
		if len(list) > page {
			t.Fatalf("%d events on a page of %d", len(list), page)
		}
		for _, ev := range list {
			if ev.Seq != since+1 {
				t.Fatalf("seq %d follows %d", ev.Seq, since)
			}
			since = ev.Seq
		}
		all = append(all, list...)
	}
}

func eventOrder(t *testing.T, e Engine) {
	if list, oldest, err := e.Store().Events(t.Context(), 0, 10); err != nil || len(list) != 0 || oldest != 0 {
		t.Fatalf("empty log: %v, oldest %d, %v", list, oldest, err)
	}
	ops := make([]persistence.Op, 40)
	var want []*messages.Event
	for i := range ops {
		ops[i] = persistence.Op{Events: events(i%4, fmt.Sprint(i))}
		want = append(want, ops[i].Events...)
	}
	must(t, e, ops...)
	for i, ev := range want {
		if ev.Seq != int64(i+1) {
			t.Fatalf("event %d was given seq %d", i, ev.Seq)
		}
	}
	same(t, log(t, e, 0, 1000), want)
	if _, oldest, err := e.Store().Events(t.Context(), 3, 1); err != nil || oldest != 1 {
		t.Errorf("oldest %d, %v", oldest, err)
	}
}

func eventResume(t *testing.T, e Engine) {
	total := int64(0)
	for _, n := range []int{1, 700, 3, 0, 64, 1} { // more than fit in one piece of any engine
		must(t, e, persistence.Op{Events: events(n, fmt.Sprint(total))})
		total += int64(n)
	}
	for _, page := range []int{1000, 64, 7} {
		if got := log(t, e, 0, page); int64(len(got)) != total {
			t.Fatalf("pages of %d: %d events, want %d", page, len(got), total)
		}
	}
	for since := int64(0); since <= total+1; since += 13 {
		list, _, err := e.Store().Events(t.Context(), since, 5)
		if err != nil {
			t.Fatal(err)
		}
		if want := min(5, max(0, total-since)); int64(len(list)) != want || (want > 0 && list[0].Seq != since+1) {
			t.Fatalf("since %d: %d events", since, len(list))
		}
	}
}

func eventSkipped(t *testing.T, e Engine) {
	a := newTask()
	ops := []persistence.Op{insert(a), update(a, messages.Running, 9), update(newTask(), messages.Queued, 0), {}, cancel(a, "x")}
	for i := range ops {
		ops[i].Events = events(2, fmt.Sprint(i))
	}
	ops[3].Fences = []messages.Fence{{Scope: messages.ShardScope, Key: "1", Owner: "n", Epoch: 1}}
	commit(t, e, ops...)
	same(t, log(t, e, 0, 100), append(ops[0].Events, ops[4].Events...))
	for _, i := range []int{1, 2, 3} {
		if ops[i].Events[0].Seq != 0 {
			t.Errorf("event of skipped op %d was numbered", i)
		}
	}
}

func eventConcurrent(t *testing.T, e Engine) {
	const writers, rounds = 8, 25
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			last := int64(0)
			for r := range rounds {
				op := persistence.Op{Events: events(1+r%3, fmt.Sprintf("%d-%d", w, r))}
				if _, err := e.Store().Commit(t.Context(), []persistence.Op{op}); err != nil {
					t.Errorf("commit: %v", err)
					return
				}
				for _, ev := range op.Events {
					if ev.Seq <= last {
						t.Errorf("seq %d after %d", ev.Seq, last)
					}
					last = ev.Seq
				}
			}
		})
	}
	// A reader that follows the log never sees a number before its predecessors.
	follow := func(since int64) int64 {
		list := log(t, e, since, 10)
		return since + int64(len(list))
	}
	done := make(chan struct{})
	go func() { wg.Wait(); close(done) }()
	since := int64(0)
	for running := true; running; {
		select {
		case <-done:
			running = false
		default:
		}
		since = follow(since)
	}
	last, err := e.Store().LastSeq(t.Context())
	if err != nil || since != last || last < writers*rounds {
		t.Errorf("followed to %d, last %d, %v", since, last, err)
	}
}

func eventRestart(t *testing.T, e Engine) {
	must(t, e, persistence.Op{Events: events(5, "a")})
	e.Restart(t)
	op := persistence.Op{Events: events(1, "b")}
	must(t, e, op)
	if op.Events[0].Seq != 6 || len(log(t, e, 0, 100)) != 6 {
		t.Errorf("seq %d after restart", op.Events[0].Seq)
	}
}

func eventKinds(t *testing.T, e Engine) {
	a := ended(claimed(newTask(), "gw"), messages.DeadLetter)
	g := messages.GatewayStatus{ID: "gw", Tenant: "acme", State: messages.GatewayReady, Reason: "r"}
	s := session("s", 4)
	op := persistence.Op{Events: []*messages.Event{
		a.Event(messages.Running, messages.Now(), "why"), g.Event("p", messages.GatewayConnecting, messages.Now()), s.Event(0, messages.Now()), {},
	}}
	must(t, e, op)
	same(t, log(t, e, 0, 2), op.Events)
}

// eventTold: whoever watches is told of each batch, and of what was there before.
func eventTold(t *testing.T, e Engine) {
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	told, ended := make(chan int64, 1000), make(chan error, 1)
	go func() { ended <- e.Store().WatchEvents(ctx, func(newest int64) { told <- newest }) }()
	wait := func(seq int64) {
		t.Helper()
		end := time.After(20 * time.Second)
		for {
			select {
			case newest := <-told:
				if newest >= seq {
					return
				}
			case err := <-ended:
				t.Fatalf("it watches no longer: %v", err)
			case <-end:
				t.Fatalf("nobody told of event %d", seq)
			}
		}
	}
	_, shared := e.(SharedLeases)
	if shared {
		wait(0) // it watches now
	}
	for range 5 {
		ops := []persistence.Op{{Events: events(3, "told")}}
		must(t, e, ops...)
		if shared {
			wait(ops[0].Events[2].Seq)
		}
	}
	stop()
	if err := <-ended; err != nil && ctx.Err() == nil {
		t.Error(err)
	}
	if !shared && len(told) > 0 {
		t.Errorf("%d calls of a store that nobody else writes to", len(told))
	}
}
