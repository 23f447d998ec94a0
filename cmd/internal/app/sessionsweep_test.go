package app

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/persistence"
)

// TestSessionsAreRetired: old closed sessions of several pages go, also of a
// pool and tenant that nothing else belongs to; those of today stay, and so do
// open ones until the node is told to close what nobody uses.
func TestSessionsAreRetired(t *testing.T) {
	t.Parallel()
	a := benchNode(t, t.TempDir(), 0, 1, nil)
	w := newSessionSweep(a, prometheus.NewRegistry()) // the node's own sweeper has its metric
	long := messages.Now().Add(-60 * 24 * time.Hour)
	var ops []persistence.Op
	put := func(id, pool string, state messages.SessionState, at time.Time) {
		s := messages.Session{ID: id, Tenant: "acme", Pool: pool, State: state, CreatedAt: long, UpdatedAt: at}
		ops = append(ops, persistence.Op{Session: &persistence.SessionWrite{Session: s, FromGeneration: -1}})
	}
	const old = 2*sessionRows + 7
	for i := range old {
		put(fmt.Sprintf("old-%04d", i), []string{"default", "left"}[i%2], messages.SessionClosed, long)
	}
	put("open", "default", messages.SessionIdle, long)
	put("parked", "left", messages.SessionParked, long)
	put("young", "default", messages.SessionClosed, messages.Now())
	if err := committed(t.Context(), a, ops...); err != nil {
		t.Fatal(err)
	}
	walk := func() {
		t.Helper()
		for range 10 {
			switch w.step(t.Context()) {
			case sessionPause:
			case sessionEvery:
				return
			default:
				t.Fatal("a page could not be done")
			}
		}
		t.Fatal("the walk does not end")
	}
	states := func() map[string]messages.SessionState {
		all, err := a.store.Sessions(t.Context(), "", "", "", 1000)
		if err != nil {
			t.Fatal(err)
		}
		m := map[string]messages.SessionState{}
		for _, s := range all {
			m[s.ID] = s.State
		}
		return m
	}
	a.off.took = 48 * time.Hour
	walk() // the node has just started: it was off, or its store is an old backup
	w.idle = 24 * time.Hour
	walk()
	if got := states(); len(got) != old+3 || got["open"] != messages.SessionIdle {
		t.Fatalf("a node that has just started left %d sessions", len(got))
	}
	a.off.began, w.idle = time.Now().Add(-offGrace), 0
	walk()
	if got := states(); len(got) != 3 || got["open"] != messages.SessionIdle || got["parked"] != messages.SessionParked || got["young"] != messages.SessionClosed {
		t.Fatalf("left: %v", got)
	}
	if n := testutil.ToFloat64(w.retired.WithLabelValues("removed")); n != old {
		t.Errorf("%v counted as removed, want %d", n, old)
	}
	c := sessionCommands{newCommands(a)}
	if _, err := c.Session(t.Context(), "acme", "old-0000"); messages.CodeOf(err) != messages.CodeNotFound {
		t.Errorf("show of a removed session: %v", err)
	}
	w.idle = 24 * time.Hour
	walk()
	if got := states(); len(got) != 3 || got["open"] != messages.SessionClosed || got["parked"] != messages.SessionClosed {
		t.Errorf("after the rule for unused ones: %v", got)
	}
	w.retention = 0
	walk()
	if got := states(); len(got) != 3 {
		t.Errorf("without retention: %v", got)
	}
	// Nothing happens while this node only stands by, and a store that is away is
	// waited for.
	w.retention = time.Nanosecond
	a.standing.Store(&messages.Error{Code: messages.CodeUnavailable, Message: "another node works"})
	if pause := w.step(t.Context()); pause != sessionEvery || len(states()) != 3 {
		t.Errorf("a node that stands by: %v after %v", states(), pause)
	}
	a.standing.Store(nil)
	w.store = noSessions{a.store}
	if pause := w.step(t.Context()); pause != sweepEvery {
		t.Errorf("tried again after %v", pause)
	}
}

// TestAPoolThatDoesNotAnswerKeepsNoOthers: its sessions stay, and are tried with
// the next walk; those of other pools, on pages behind, go.
func TestAPoolThatDoesNotAnswerKeepsNoOthers(t *testing.T) {
	t.Parallel()
	a := benchNode(t, t.TempDir(), 0, 1, nil)
	w := newSessionSweep(a, prometheus.NewRegistry())
	long := messages.Now().Add(-60 * 24 * time.Hour)
	var ops []persistence.Op
	for i := range 2*sessionRows + 7 {
		s := messages.Session{ID: fmt.Sprintf("old-%04d", i), Tenant: "acme", Pool: []string{"default", "stuck"}[i%2],
			State: messages.SessionClosed, CreatedAt: long, UpdatedAt: long}
		ops = append(ops, persistence.Op{Session: &persistence.SessionWrite{Session: s, FromGeneration: -1}})
	}
	if err := committed(t.Context(), a, ops...); err != nil {
		t.Fatal(err)
	}
	find := w.commands.owners.Pool
	w.commands.owners.Pool = func(ctx context.Context, id string) (*actor.PID, error) {
		if id == "stuck" {
			<-ctx.Done()
			return nil, ctx.Err()
		}
		return find(ctx, id)
	}
	w.limit = 200 * time.Millisecond
	for range 3 {
		if pause := w.step(t.Context()); pause != sweepEvery && pause != sessionEvery {
			t.Errorf("a pause of %v", pause)
		}
	}
	left, err := a.store.Sessions(t.Context(), "", "", "", 1000)
	if err != nil || len(left) != sessionRows+3 {
		t.Fatalf("%d left, %v", len(left), err)
	}
	for _, s := range left {
		if s.Pool != "stuck" {
			t.Errorf("%s of pool %s is left", s.ID, s.Pool)
		}
	}
	w.commands.owners.Pool = find
	for range 3 {
		w.step(t.Context())
	}
	if left, err = a.store.Sessions(t.Context(), "", "", "", 1000); err != nil || len(left) != 0 {
		t.Errorf("%d left when it answers, %v", len(left), err)
	}
}

type noSessions struct{ persistence.Store }

func (noSessions) Sessions(context.Context, string, string, string, int) ([]messages.Session, error) {
	return nil, errors.New("away")
}
