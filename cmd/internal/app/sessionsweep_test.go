package app

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/dash-fleet/dash/cmd/internal/requests"
	"github.com/dash-fleet/dash/cmd/internal/retention"
	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/persistence"
)

// TestSessionsAreRetired: old closed sessions of several pages go, also of a
// pool and tenant that nothing else belongs to; those of today stay, and so do
// open ones until the node is told to close what nobody uses.
func TestSessionsAreRetired(t *testing.T) {
	t.Parallel()
	a := benchNode(t, t.TempDir(), 0, 1, nil)
	registry := prometheus.NewRegistry() // the node's own sweeper has its metric
	w := retention.NewSessions(a.sessionWalk(newCommands(a)), registry)
	long := messages.Now().Add(-60 * 24 * time.Hour)
	var ops []persistence.Op
	put := func(id, pool string, state messages.SessionState, at time.Time) {
		s := messages.Session{ID: id, Tenant: "acme", Pool: pool, State: state, CreatedAt: long, UpdatedAt: at}
		ops = append(ops, persistence.Op{Session: &persistence.SessionWrite{Session: s, FromGeneration: -1}})
	}
	const old = 2*requests.SessionPage + 7
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
			switch w.Step(t.Context()) {
			case 200 * time.Millisecond: // there is more
			case time.Minute: // the walk is over
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
	a.off.Took = 48 * time.Hour
	walk() // the node has just started: it was off, or its store is an old backup
	w.Idle = 24 * time.Hour
	walk()
	if got := states(); len(got) != old+3 || got["open"] != messages.SessionIdle {
		t.Fatalf("a node that has just started left %d sessions", len(got))
	}
	a.off.Began, w.Idle = time.Now().Add(-24*time.Hour), 0
	walk()
	if got := states(); len(got) != 3 || got["open"] != messages.SessionIdle || got["parked"] != messages.SessionParked || got["young"] != messages.SessionClosed {
		t.Fatalf("left: %v", got)
	}
	counted := fmt.Sprintf("dash_sessions_retired_total{what=\"closed\"} 0\ndash_sessions_retired_total{what=\"removed\"} %d\n", old)
	if err := testutil.GatherAndCompare(registry, strings.NewReader("# HELP dash_sessions_retired_total Sessions that were closed because they were not used (closed), and closed ones that were removed (removed).\n# TYPE dash_sessions_retired_total counter\n"+counted)); err != nil {
		t.Error(err)
	}
	c := newCommands(a).sessions()
	if _, err := c.Session(t.Context(), "acme", "old-0000"); messages.CodeOf(err) != messages.CodeNotFound {
		t.Errorf("show of a removed session: %v", err)
	}
	w.Idle = 24 * time.Hour
	walk()
	if got := states(); len(got) != 3 || got["open"] != messages.SessionClosed || got["parked"] != messages.SessionClosed {
		t.Errorf("after the rule for unused ones: %v", got)
	}
	w.Keep = 0
	walk()
	if got := states(); len(got) != 3 {
		t.Errorf("without retention: %v", got)
	}
	// Nothing happens while this node only stands by, and a store that is away is
	// waited for.
	w.Keep = time.Nanosecond
	a.duty.Stand(&messages.Error{Code: messages.CodeUnavailable, Message: "another node works"})
	if pause := w.Step(t.Context()); pause != time.Minute || len(states()) != 3 {
		t.Errorf("a node that stands by: %v after %v", states(), pause)
	}
	a.duty.Stand(nil)
	w.Store = noSessions{a.store}
	if pause := w.Step(t.Context()); pause != retention.Every {
		t.Errorf("tried again after %v", pause)
	}
}

// TestAPoolThatDoesNotAnswerKeepsNoOthers: its sessions stay, and are tried with
// the next walk; those of other pools, on pages behind, go.
func TestAPoolThatDoesNotAnswerKeepsNoOthers(t *testing.T) {
	t.Parallel()
	a := benchNode(t, t.TempDir(), 0, 1, nil)
	c := newCommands(a)
	walk := a.sessionWalk(c)
	walk.Limit = 200 * time.Millisecond
	w := retention.NewSessions(walk, prometheus.NewRegistry())
	long := messages.Now().Add(-60 * 24 * time.Hour)
	var ops []persistence.Op
	for i := range 2*requests.SessionPage + 7 {
		s := messages.Session{ID: fmt.Sprintf("old-%04d", i), Tenant: "acme", Pool: []string{"default", "stuck"}[i%2],
			State: messages.SessionClosed, CreatedAt: long, UpdatedAt: long}
		ops = append(ops, persistence.Op{Session: &persistence.SessionWrite{Session: s, FromGeneration: -1}})
	}
	if err := committed(t.Context(), a, ops...); err != nil {
		t.Fatal(err)
	}
	find := c.owners.Pool
	c.owners.Pool = func(ctx context.Context, id string) (*actor.PID, error) {
		if id == "stuck" {
			<-ctx.Done()
			return nil, ctx.Err()
		}
		return find(ctx, id)
	}
	for range 3 {
		if pause := w.Step(t.Context()); pause != retention.Every && pause != time.Minute {
			t.Errorf("a pause of %v", pause)
		}
	}
	left, err := a.store.Sessions(t.Context(), "", "", "", 1000)
	if err != nil || len(left) != requests.SessionPage+3 {
		t.Fatalf("%d left, %v", len(left), err)
	}
	for _, s := range left {
		if s.Pool != "stuck" {
			t.Errorf("%s of pool %s is left", s.ID, s.Pool)
		}
	}
	c.owners.Pool = find
	for range 3 {
		w.Step(t.Context())
	}
	if left, err = a.store.Sessions(t.Context(), "", "", "", 1000); err != nil || len(left) != 0 {
		t.Errorf("%d left when it answers, %v", len(left), err)
	}
}

type noSessions struct{ persistence.Store }

func (noSessions) Sessions(context.Context, string, string, string, int) ([]messages.Session, error) {
	return nil, errors.New("away")
}
