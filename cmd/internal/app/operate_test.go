package app

import (
	"context"
	"log/slog"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/dash-fleet/dash/actors/gateway"
	"github.com/dash-fleet/dash/actors/openclaw"
	"github.com/dash-fleet/dash/cmd/internal/config"
	"github.com/dash-fleet/dash/cmd/internal/requests"
	"github.com/dash-fleet/dash/http/server"
	"github.com/dash-fleet/dash/messages"
)

// refusedFor fails the test unless err is a refusal that says all words.
func refusedFor(t *testing.T, err error, code messages.Code, words ...string) {
	t.Helper()
	if messages.CodeOf(err) != code {
		t.Fatalf("%v, want code %s", err, code)
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("%q does not say %q", err, w)
		}
	}
}

// reaches waits until a gateway is in a state.
func reaches(t *testing.T, c *requests.Gateways, id string, want messages.GatewayState) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(2 * time.Millisecond) {
		g, err := c.Get(t.Context(), "", id)
		if err == nil && g.Status.State == want {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("gateway %s is %s (%v), want %s", id, g.Status.State, err, want)
		}
	}
}

func TestADrainedGatewayIsNotRestarted(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	c := newCommands(benchNode(t, t.TempDir(), 1, 1, nil)).gateways()
	reaches(t, c, "gw-0", messages.GatewayReady)
	if _, err := c.Drain(ctx, "", "gw-0"); err != nil {
		t.Fatal(err)
	}
	reaches(t, c, "gw-0", messages.GatewayDrained)
	_, err := c.Restart(ctx, "", "gw-0")
	refusedFor(t, err, messages.CodeWrongState, "is drained", "dash gateway resume gw-0")
	if _, err := c.Resume(ctx, "", "gw-0"); err != nil {
		t.Fatal(err)
	}
	reaches(t, c, "gw-0", messages.GatewayReady)
	if _, err := c.Restart(ctx, "", "gw-0"); err != nil {
		t.Fatalf("a gateway at work: %v", err)
	}
}

// TestARemovedGatewayLeavesNoTrace: neither in the list nor in the metrics, and
// what it was last is not what a new gateway of its name is.
func TestARemovedGatewayLeavesNoTrace(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	a := benchNode(t, t.TempDir(), 2, 1, nil)
	c := newCommands(a).gateways()
	reaches(t, c, "gw-0", messages.GatewayReady)
	reaches(t, c, "gw-1", messages.GatewayReady)
	if _, err := c.Delete(ctx, "", "gw-0", false); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(2 * time.Millisecond) {
		if _, alive := a.node.Gateway("gw-0"); !alive {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the removed gateway's owner did not end")
		}
	}
	if all, _, err := c.List(ctx, server.GatewayFilter{}, "", 10); err != nil || len(all) != 1 || all[0].Config.ID != "gw-1" {
		t.Errorf("list %+v, %v", all, err)
	}
	families, err := a.deps.Registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	seen := 0
	for _, f := range families {
		for _, m := range f.GetMetric() {
			for _, l := range m.GetLabel() {
				if l.GetName() == "gateway" && l.GetValue() == "gw-0" {
					t.Errorf("%s still has gw-0", f.GetName())
				}
			}
			if f.GetName() == "dash_gateways" {
				seen += int(m.GetGauge().GetValue())
			}
		}
	}
	if seen != 1 {
		t.Errorf("dash_gateways counts %d gateways, want 1", seen)
	}
	// Its last word is written a little later.
	row := messages.Gateway{ID: "gw-0", Tenant: "default", Pool: "default"}
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(2 * time.Millisecond) {
		s := c.Shown(ctx, row).Status.State
		if s == messages.GatewayRegistered {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("a new gateway of that name that nobody has taken up is %s", s)
		}
	}
}

func TestAPoolInUseKeepsItsTenant(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	c := newCommands(benchNode(t, t.TempDir(), 1, 1, nil))
	_, err := c.pools().Put(ctx, "", messages.Pool{ID: "own", Tenant: "acme"})
	refusedFor(t, err, messages.CodeInvalid, "there is no tenant acme")
	for _, id := range []string{"acme", "umbrella"} {
		if _, err := c.app.Commands().Accounts.CreateTenant(ctx, messages.Tenant{ID: id, Name: id}); err != nil {
			t.Fatal(err)
		}
	}
	give := func(id, tenant string, version int64) (messages.Pool, error) {
		return c.pools().Put(ctx, "", messages.Pool{ID: id, Tenant: tenant, Version: version})
	}
	_, err = give("default", "acme", 0)
	refusedFor(t, err, messages.CodeWrongState, "the own one of tenant default")

	p, err := give("own", "acme", 0)
	if err != nil {
		t.Fatal(err)
	}
	if p, err = give("own", "umbrella", p.Version); err != nil {
		t.Fatalf("a pool that nobody uses: %v", err)
	}
	s, err := c.sessions().Create(ctx, messages.Session{Tenant: "umbrella", ID: "s", Pool: "own"})
	if err != nil {
		t.Fatal(err)
	}
	_, err = give("own", "acme", p.Version)
	refusedFor(t, err, messages.CodeWrongState, "the session s", "close its sessions first")
	if err := c.sessions().Close(ctx, s.Tenant, s.ID); err != nil {
		t.Fatal(err)
	}
	task, err := c.tasks().Submit(ctx, server.SubmitRequest{Tenant: "umbrella", Pool: "own", Class: messages.Low, Spec: spec("x")})
	if err != nil {
		t.Fatal(err)
	}
	_, err = give("own", "acme", p.Version)
	refusedFor(t, err, messages.CodeWrongState, "tasks that have not ended")
	if p, err = give("own", "umbrella", p.Version); err != nil {
		t.Fatalf("its own tenant again: %v", err)
	}
	if _, err := c.tasks().Cancel(ctx, "umbrella", task.Task.ID, ""); err != nil {
		t.Fatal(err)
	}
	if p, err = give("own", "acme", p.Version); err != nil || p.Tenant != "acme" {
		t.Fatalf("nobody uses it any more: %+v, %v", p, err)
	}
}

// TestOneProcessBehindTwoPorts: a forwarded port makes no second gateway, and
// after a restart of Dash the same one is left out.
func TestOneProcessBehindTwoPorts(t *testing.T) {
	t.Parallel()
	ctx, dir := t.Context(), t.TempDir()
	start := func(t *testing.T) *requests.Gateways {
		cfg := config.Default()
		cfg.Listen, cfg.Data, cfg.Node, cfg.Retention = "127.0.0.1:0", dir, "n", 0
		a, err := Start(ctx, cfg, Deps{
			Logger: slog.New(slog.DiscardHandler), Registry: prometheus.NewRegistry(), BcryptCost: 4,
			Dial: func(context.Context, openclaw.Config, openclaw.Handler) (gateway.Link, error) {
				return &instant{boot: "the-one", done: make(chan struct{})}, nil
			},
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := a.Stop(); err != nil {
				t.Error(err)
			}
		})
		return newCommands(a).gateways()
	}
	look := func(t *testing.T, c *requests.Gateways) {
		reaches(t, c, "z-first", messages.GatewayReady)
		reaches(t, c, "a-second", messages.GatewayQuarantined)
		g, err := c.Get(ctx, "", "a-second")
		if err != nil || !strings.Contains(g.Status.Reason, "the gateway z-first") {
			t.Errorf("reason %q, %v", g.Status.Reason, err)
		}
	}
	t.Run("first life", func(t *testing.T) {
		c := start(t)
		for i, id := range []string{"z-first", "a-second"} {
			g := messages.Gateway{ID: id, Tenant: "default", Pool: "default", URL: "ws://127.0.0.1:" + strconv.Itoa(i+1), Token: "t", Weight: 1}
			if _, err := c.Create(ctx, "", g); err != nil {
				t.Fatal(err)
			}
			if id == "z-first" {
				reaches(t, c, id, messages.GatewayReady)
			}
		}
		look(t, c)
	})
	t.Run("next life", func(t *testing.T) { look(t, start(t)) })
}

// TestSessionsKeepOutOfThrowAwayOnes: an id that would share its key at a
// gateway with a task's own session is refused.
func TestSessionsKeepOutOfThrowAwayOnes(t *testing.T) {
	t.Parallel()
	c := newCommands(benchNode(t, t.TempDir(), 1, 1, nil))
	spec := &messages.TaskSpec{Message: "hi", TimeoutSeconds: 60, MaxAttempts: 1}
	out, err := c.tasks().Submit(t.Context(), server.SubmitRequest{Tenant: "default", Class: messages.High, Spec: spec})
	if err != nil {
		t.Fatal(err)
	}
	own := out.Task.SessionOrOwn()
	_, err = c.tasks().Submit(t.Context(), server.SubmitRequest{Tenant: "default", Class: messages.High, Session: own, Spec: spec})
	refusedFor(t, err, messages.CodeInvalid, own, "begins with task-")
	_, err = c.sessions().Create(t.Context(), messages.Session{Tenant: "default", ID: own})
	refusedFor(t, err, messages.CodeInvalid, own, "begins with task-")
}

// TestUnknownTenantsAreRefused: what belongs to a tenant that nobody made would
// wait for ever.
func TestUnknownTenantsAreRefused(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	c := newCommands(benchNode(t, t.TempDir(), 1, 1, nil))
	tries := map[string]func() error{
		"task": func() error {
			spec := &messages.TaskSpec{Message: "m", TimeoutSeconds: 60, MaxAttempts: 1, OnUnknown: "requeue"}
			_, err := c.tasks().Submit(ctx, server.SubmitRequest{Tenant: "late", Class: messages.Low, Spec: spec})
			return err
		},
		"session": func() error {
			_, err := c.sessions().Create(ctx, messages.Session{Tenant: "late", ID: "s", Pool: "late"})
			return err
		},
		"gateway": func() error {
			_, err := c.gateways().Create(ctx, "", messages.Gateway{ID: "g", Tenant: "late", Pool: "late", URL: "ws://127.0.0.1:2", Token: "t", Weight: 1})
			return err
		},
	}
	for _, try := range tries {
		refusedFor(t, try(), messages.CodeInvalid, "there is no tenant late", "dash tenant create late")
	}
	if _, err := c.app.Commands().Accounts.CreateTenant(ctx, messages.Tenant{ID: "late", Name: "late"}); err != nil {
		t.Fatal(err)
	}
	for what, try := range tries {
		if err := try(); err != nil {
			t.Errorf("%s of a tenant that was made meanwhile: %v", what, err)
		}
	}
}

// TestAPoolReservesWhatItMayRun: more slots than the pool's cap can never be
// kept free.
func TestAPoolReservesWhatItMayRun(t *testing.T) {
	t.Parallel()
	c := newCommands(benchNode(t, t.TempDir(), 1, 1, nil))
	p := messages.Pool{ID: "p", Tenant: "default", MaxConcurrency: 4, Reserved: map[messages.Class]int{messages.Critical: 3, messages.High: 2}}
	_, err := c.pools().Put(t.Context(), "", p)
	refusedFor(t, err, messages.CodeInvalid, "5 slots are reserved", "4 at once")
	p.Reserved = map[messages.Class]int{messages.Critical: 999_999}
	_, err = c.pools().Put(t.Context(), "", p)
	refusedFor(t, err, messages.CodeInvalid, "999999 slots are reserved")
	p.Reserved = map[messages.Class]int{messages.Critical: 4}
	if _, err = c.pools().Put(t.Context(), "", p); err != nil {
		t.Errorf("as many as it may run: %v", err)
	}
}

// TestAnUnchangedPoolKeepsItsVersion: writing what is there is no change, and
// is still refused when somebody else changed it.
func TestAnUnchangedPoolKeepsItsVersion(t *testing.T) {
	t.Parallel()
	c := newCommands(benchNode(t, t.TempDir(), 1, 1, nil)).pools()
	put := func(p messages.Pool) messages.Pool {
		t.Helper()
		p, err := c.Put(t.Context(), "", p)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	first := put(messages.Pool{ID: "p", Tenant: "default", Reserved: map[messages.Class]int{messages.Critical: 1}})
	same := messages.Pool{ID: "p", Tenant: "default", Version: first.Version, AwaySeconds: messages.DefaultAwaySeconds,
		Limits: map[messages.Class]messages.ClassLimit{messages.Low: {Count: messages.DefaultClassCount}}, Reserved: map[messages.Class]int{messages.Critical: 1, messages.Low: 0}}
	if got := put(same); got.Version != first.Version || !got.CreatedAt.Equal(first.CreatedAt) {
		t.Errorf("version %d, created %s, want %d, %s", got.Version, got.CreatedAt, first.Version, first.CreatedAt)
	}
	for _, change := range []func(*messages.Pool){
		func(p *messages.Pool) { p.MaxConcurrency = 9 }, func(p *messages.Pool) { p.AgingSeconds = 9 }, func(p *messages.Pool) { p.AwaySeconds = 9 },
		func(p *messages.Pool) { p.Reserved = nil }, func(p *messages.Pool) { p.Limits = map[messages.Class]messages.ClassLimit{messages.Low: {Bytes: 9}} },
	} {
		p := first
		change(&p)
		got := put(p)
		if got.Version != first.Version+1 {
			t.Errorf("%+v kept its version", p)
		}
		first = got
	}
	stale := first
	stale.Version--
	_, err := c.Put(t.Context(), "", stale)
	refusedFor(t, err, messages.CodeVersionClash, "changed meanwhile")
}
