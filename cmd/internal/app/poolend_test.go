package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/dash-fleet/dash/cmd/internal/config"
	"github.com/dash-fleet/dash/cmd/internal/requests"
	"github.com/dash-fleet/dash/http/server"
	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/persistence"
)

// lostAnswer removes pools and does not say so.
type lostAnswer struct{ persistence.Pools }

func (p lostAnswer) Delete(ctx context.Context, id string) error {
	return errors.Join(persistence.ErrUnavailable, p.Pools.Delete(ctx, id))
}

// TestARemovedPoolStaysAway: neither a lost answer of the store nor whoever saw
// the pool a moment ago brings back an owner of it, which would be a pool of the
// default tenant.
func TestARemovedPoolStaysAway(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	a, c := twoTenants(t)
	pools := c.pools()
	if _, err := pools.Put(ctx, "a", messages.Pool{ID: "p", Tenant: "a"}); err != nil {
		t.Fatal(err)
	}
	a.repos.Pools = lostAnswer{a.repos.Pools}
	refusedFor(t, pools.Delete(ctx, "a", "p"), messages.CodeUnavailable)
	if err := a.fleet.EnsurePool(ctx, "p"); !errors.Is(err, persistence.ErrNotFound) {
		t.Errorf("start its owner: %v", err)
	}
	if _, err := pools.Get(ctx, "", "p"); messages.CodeOf(err) != messages.CodeNotFound {
		t.Errorf("it is back: %v", err)
	}
	if _, err := pools.Put(ctx, "b", messages.Pool{ID: "p", Tenant: "b"}); err != nil {
		t.Errorf("its name is not free: %v", err)
	}
}

// TestASweepBringsNoPoolBack: the closed sessions of a pool that an earlier release
// left without a row go, and the pool is their tenant's meanwhile; those that went
// with their pool bring nothing back.
func TestASweepBringsNoPoolBack(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	a, _ := twoTenants(t)
	there, err := a.fleet.StartFor(ctx, messages.Session{Tenant: "a", ID: "s", Pool: "p"})
	if _, runs := a.node.Pool("p"); there || err != nil || runs {
		t.Errorf("of a session that is gone: %v, %v, it runs: %v", there, err, runs)
	}
	s := messages.Session{ID: "s", Tenant: "a", Pool: "p", State: messages.SessionClosed, CreatedAt: messages.Now(), UpdatedAt: messages.Now()}
	if err := committed(ctx, a, persistence.Op{Session: &persistence.SessionWrite{Session: s, FromGeneration: -1}}); err != nil {
		t.Fatal(err)
	}
	if there, err = a.fleet.StartFor(ctx, s); !there || err != nil {
		t.Errorf("of a session that is there: %v, %v", there, err)
	}
	if p, there, err := a.fleet.PoolConfig(ctx, "p"); p.Tenant != "a" || !there || err != nil {
		t.Errorf("whose it is: %+v, %v", p, err)
	}
}

// TestAPoolWithManyClosedSessionsIsRemoved: they are named, and go, a page at a time.
func TestAPoolWithManyClosedSessionsIsRemoved(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	a, c := twoTenants(t)
	if _, err := c.pools().Put(ctx, "a", messages.Pool{ID: "p", Tenant: "a"}); err != nil {
		t.Fatal(err)
	}
	var ops []persistence.Op
	for i := range 2*requests.SessionPage + 1 {
		s := messages.Session{ID: fmt.Sprint("s-", i), Tenant: "a", Pool: "p", State: messages.SessionClosed, CreatedAt: messages.Now(), UpdatedAt: messages.Now()}
		ops = append(ops, persistence.Op{Session: &persistence.SessionWrite{Session: s, FromGeneration: -1}})
	}
	if err := committed(ctx, a, ops...); err != nil {
		t.Fatal(err)
	}
	counting := &countedSessions{Store: a.store}
	in := requests.Pools{Store: counting, Repos: &a.repos}
	if what, _, err := in.InUse(ctx, messages.Pool{ID: "p", Tenant: "a"}, true); what == "" || err != nil || counting.reads != 1 {
		t.Errorf("%q, %v, after %d pages", what, err, counting.reads)
	}
	if err := c.pools().Delete(ctx, "a", "p"); err != nil {
		t.Fatal(err)
	}
	if left, err := a.store.Sessions(ctx, "a", "", "", 10); len(left) > 0 || err != nil {
		t.Errorf("left: %+v, %v", left, err)
	}
}

type countedSessions struct {
	persistence.Store
	reads int
}

func (s *countedSessions) Sessions(ctx context.Context, tenant, pool, after string, limit int) ([]messages.Session, error) {
	s.reads++
	return s.Store.Sessions(ctx, tenant, pool, after, limit)
}

// TestAPoolThatChangesHandsIsCounted like one that its new tenant makes.
func TestAPoolThatChangesHandsIsCounted(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	_, c := twoTenants(t)
	for i := range requests.MaxPools {
		if _, err := c.pools().Put(ctx, "a", messages.Pool{ID: fmt.Sprint("a-", i), Tenant: "a"}); err != nil {
			t.Fatal(err)
		}
	}
	p, err := c.pools().Put(ctx, "b", messages.Pool{ID: "b-1", Tenant: "b"})
	if err != nil {
		t.Fatal(err)
	}
	p.Tenant = "a"
	_, err = c.pools().Put(ctx, "", p)
	refusedFor(t, err, messages.CodeConflict, "tenant a has 200 pools")
}

// slowTenants lets others go first before it makes a tenant.
type slowTenants struct {
	persistence.Tenants
	first func()
}

func (s slowTenants) Create(ctx context.Context, t messages.Tenant) (messages.Tenant, error) {
	s.first()
	return s.Tenants.Create(ctx, t)
}

// TestATenantAndAPoolOfItsName: of the two that are made at once one is refused.
func TestATenantAndAPoolOfItsName(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	a, c := twoTenants(t)
	put := make(chan error, 1)
	a.repos.Tenants = slowTenants{a.repos.Tenants, func() {
		go func() {
			_, err := c.pools().Put(ctx, "b", messages.Pool{ID: "x", Tenant: "b"})
			put <- err
		}()
		select { // with both looking before either writes, the pool is made here
		case err := <-put:
			put <- err
		case <-time.After(100 * time.Millisecond):
		}
	}}
	_, err := c.app.Commands().Accounts.CreateTenant(ctx, messages.Tenant{ID: "x", Name: "x"})
	if perr := <-put; err == nil == (perr == nil) {
		t.Errorf("the tenant: %v, the pool of b: %v", err, perr)
	}
}

// awayGateways is a repository that does not answer.
type awayGateways struct{ persistence.Gateways }

func (awayGateways) Get(context.Context, string) (messages.Gateway, error) {
	return messages.Gateway{}, persistence.ErrUnavailable
}

// TestAMoveIsRefusedForWhatItIs: a store that is away is no gateway that is not there.
func TestAMoveIsRefusedForWhatItIs(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	_, c := twoTenants(t)
	sessions := c.sessions()
	if _, err := sessions.Create(ctx, messages.Session{ID: "s", Tenant: "a", Pool: "a"}); err != nil {
		t.Fatal(err)
	}
	_, err := sessions.Move(ctx, "a", "s", server.SessionMove{Gateway: "none"})
	refusedFor(t, err, messages.CodeInvalid, "pool a has no gateway none")
	sessions.Gateways = awayGateways{sessions.Gateways}
	_, err = sessions.Move(ctx, "a", "s", server.SessionMove{Gateway: "g"})
	refusedFor(t, err, messages.CodeUnavailable)
}

// TestAnOwnPoolIsThereAfterARestart for its sessions and ended tasks, although it
// has no row, and neither gateways nor open tasks; of one that was removed it is
// told that it is not there, and not that the tenant default might make it.
func TestAnOwnPoolIsThereAfterARestart(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	cfg := config.Default()
	cfg.Listen, cfg.Data, cfg.Node = "127.0.0.1:0", t.TempDir(), "n"
	start := func() (*App, *commands) {
		a, err := Start(ctx, cfg, Deps{Logger: slog.New(slog.DiscardHandler), Registry: prometheus.NewRegistry(), BcryptCost: 4})
		if err != nil {
			t.Fatal(err)
		}
		return a, newCommands(a)
	}
	a, c := start()
	makeTenants(t, c, "a")
	if _, err := c.pools().Put(ctx, "a", messages.Pool{ID: "p", Tenant: "a"}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.sessions().Create(ctx, messages.Session{ID: "s", Tenant: "a", Pool: "a"}); err != nil {
		t.Fatal(err)
	}
	ended := map[string]string{}
	for _, pool := range []string{"a", "p"} {
		out, err := c.tasks().Submit(ctx, server.SubmitRequest{Tenant: "a", Pool: pool, Class: messages.Low, Spec: spec("x")})
		if err == nil {
			_, err = c.tasks().Cancel(ctx, "a", out.Task.ID, "")
		}
		if err != nil {
			t.Fatal(err)
		}
		ended[pool] = out.Task.ID
	}
	if err := a.Stop(); err != nil {
		t.Fatal(err)
	}
	a, c = start()
	if _, err := c.tasks().Cancel(ctx, "a", ended["a"], ""); err != nil {
		t.Errorf("cancel a cancelled task again: %v", err)
	}
	if err := c.sessions().Close(ctx, "a", "s"); err != nil {
		t.Errorf("close its session: %v", err)
	}
	if err := c.pools().Delete(ctx, "a", "p"); err != nil {
		t.Error(err)
	}
	_, err := c.tasks().Cancel(ctx, "a", ended["p"], "")
	refusedFor(t, err, messages.CodeWrongState, `there is no pool "p" any more`)
	if err := a.Stop(); err != nil {
		t.Error(err)
	}
}

// TestWhatAnEarlierReleaseLeftInTheDefaultPool of another tenant: who goes on with
// it is told what to do instead, and not to leave out a pool that was not named.
func TestWhatAnEarlierReleaseLeftInTheDefaultPool(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	a, c := twoTenants(t)
	s := messages.Session{ID: "s", Tenant: "a", Pool: "default", State: messages.SessionIdle, CreatedAt: messages.Now(), UpdatedAt: messages.Now()}
	dead := messages.Task{ID: messages.NewID(), Tenant: "a", Pool: "default", Class: messages.Low, State: messages.Queued, Spec: spec("x"), CreatedAt: messages.Now()}
	end := dead
	end.State, end.FinishedAt = messages.DeadLetter, messages.Now()
	if err := committed(ctx, a, persistence.Op{Session: &persistence.SessionWrite{Session: s, FromGeneration: -1}},
		persistence.Op{Insert: &persistence.TaskInsert{Task: dead}}, persistence.Op{Update: &persistence.TaskUpdate{Task: end, From: messages.Queued}}); err != nil {
		t.Fatal(err)
	}
	_, err := c.tasks().Submit(ctx, server.SubmitRequest{Tenant: "a", Session: "s", Class: messages.Low, Spec: spec("x")})
	refusedFor(t, err, messages.CodeWrongPool, "the session s is in the pool default, which is not its tenant's", "use a new session id")
	_, err = c.tasks().Submit(ctx, server.SubmitRequest{Tenant: "a", Session: "s", Pool: "default", Class: messages.Low, Spec: spec("x")})
	refusedFor(t, err, messages.CodeInvalid, `tenant a has no pool "default"`, "leave the pool out")
	_, _, err = c.tasks().Replay(ctx, "a", dead.ID, "")
	refusedFor(t, err, messages.CodeWrongState, "the task is in the pool default, which is not its tenant's", "submit")
	if err := c.sessions().Close(ctx, "a", "s"); err != nil {
		t.Errorf("close the session: %v", err)
	}
}

// TestTheQueueGoesOnWithoutAPoolThatIsRemoved while it is read.
func TestTheQueueGoesOnWithoutAPoolThatIsRemoved(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	_, c := twoTenants(t)
	if _, err := c.pools().Put(ctx, "a", messages.Pool{ID: "p", Tenant: "a"}); err != nil {
		t.Fatal(err)
	}
	c.owners.Pool = func(ctx context.Context, id string) (*actor.PID, error) {
		if id == "p" {
			if err := newCommands(c.app).pools().Delete(ctx, "a", id); err != nil {
				t.Error(err)
			}
		}
		return c.pool(ctx, id)
	}
	q, err := c.tasks().Queue(ctx, "", "", "")
	if err != nil || len(q) != len(messages.Classes) || q[0].Pool != "default" {
		t.Errorf("%+v, %v", q, err)
	}
}

// TestAGatewayThatCouldNotBeAddedIsOnRecordAsRemoved: its row was there for a moment.
func TestAGatewayThatCouldNotBeAddedIsOnRecordAsRemoved(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	a, c := twoTenants(t)
	if _, err := c.sessions().Create(ctx, messages.Session{ID: "s", Tenant: "a", Pool: "a"}); err != nil {
		t.Fatal(err) // its pool runs
	}
	key := keyOf(t, c, "")
	a.rebuilding.Store(true) // nobody takes an owner's place now
	status, body := asked(t, a, key, "POST", "/api/v1/gateways", `{"id":"g","tenant":"a","url":"ws://127.0.0.1:2","token":"t"}`)
	if status != 503 {
		t.Fatalf("%d %s", status, body)
	}
	if status, body := asked(t, a, key, "POST", "/api/v1/sessions", `{"id":"s","tenant":"b"}`); status != 503 {
		t.Errorf("a pool that gets no owner: %d %s", status, body)
	}
	if _, err := a.repos.Gateways.Get(ctx, "g"); !errors.Is(err, persistence.ErrNotFound) {
		t.Fatalf("it is there: %v", err)
	}
	_, rows := asked(t, a, key, "GET", "/api/v1/audit?target=g", "")
	if strings.Count(rows, `"createGateway"`) != 2 || !strings.Contains(rows, `"before":{`) {
		t.Errorf("%s", rows)
	}
}
