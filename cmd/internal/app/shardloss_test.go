package app

import (
	"bufio"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/dash-fleet/dash/actors/openclaw/openclawtest"
	"github.com/dash-fleet/dash/cmd/internal/config"
	"github.com/dash-fleet/dash/http/api"
	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/persistence/testserver"
)

// seen are the numbers of the events that a stream has brought so far.
type seen struct {
	mu    sync.Mutex
	seqs  []int64
	kinds []string
	ended bool
}

func (s *seen) has(seq int64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.seqs) > 0 && s.seqs[len(s.seqs)-1] >= seq
}

// watch opens a stream of events, as a browser does, that is open when it returns.
func watch(t *testing.T, a *App, key messages.Secret) *seen {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, a.URL()+"/api/v1/events", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+key.Reveal())
	resp, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(req)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatal(resp, err)
	}
	t.Cleanup(func() { _ = resp.Body.Close() })
	s := &seen{}
	go func() {
		lines := bufio.NewScanner(resp.Body)
		for lines.Scan() {
			s.mu.Lock()
			if id, ok := strings.CutPrefix(lines.Text(), "id: "); ok {
				seq, _ := strconv.ParseInt(id, 10, 64)
				s.seqs = append(s.seqs, seq)
			}
			if kind, ok := strings.CutPrefix(lines.Text(), "event: "); ok {
				s.kinds = append(s.kinds, kind)
			}
			s.mu.Unlock()
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		s.ended = true
	}()
	return s
}

// rival is another node that lives and owns the shard of a pool.
func rival(t *testing.T, a *App, pool string) (gone func()) {
	t.Helper()
	key := strconv.Itoa(messages.Shard(pool))
	for _, row := range must(a.store.Owners(t.Context(), messages.ShardScope))(t) {
		if row.Key == key {
			if err := a.store.Release(t.Context(), messages.Fence{Scope: messages.ShardScope, Key: key, Owner: row.Owner, Epoch: row.Epoch}); err != nil {
				t.Fatal(err)
			}
		}
	}
	must(a.store.Renew(t.Context(), messages.Node{ID: "rival"}, time.Hour))(t)
	must(a.store.Take(t.Context(), messages.ShardScope, key, "rival"))(t)
	return func() { must(a.store.Renew(t.Context(), messages.Node{ID: "rival"}, time.Microsecond))(t) }
}

// TestALostShardStopsAlone: a node with two pools on two shards that loses one of them
// serves the other, and its watchers; calls to the lost pool are refused, with the time
// to come back, and it goes on when its shard is free again, without a restart.
func TestALostShardStopsAlone(t *testing.T) {
	t.Parallel()
	for name, engine := range map[string]func(*config.Config){
		"sqlite": func(*config.Config) {},
		"postgres": func(c *config.Config) {
			c.Store, c.PostgresURL = config.EnginePostgres, messages.Secret(testserver.Postgres(t).Database(t))
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := config.Default()
			engine(&cfg)
			loseOne(t, cfg)
		})
	}
}

func loseOne(t *testing.T, cfg config.Config) {
	t.Helper()
	a, admin, key := fleetOfTwo(t, cfg)
	run := func(pool string) (string, error) {
		task, err := admin.SubmitTask(t.Context(), api.SubmitTask{Priority: api.PriorityHigh, Pool: &pool, Input: api.SubmitInput{Message: "hello"}})
		if err != nil {
			return "", err
		}
		return task.Id, nil
	}
	succeeds := func(pool string) {
		t.Helper()
		id := must(run(pool))(t)
		eventually(t, "a task of pool "+pool+" succeeds", func() bool {
			return must(a.store.TaskBrief(t.Context(), "", id))(t).State == messages.Succeeded
		})
	}
	succeeds(messages.DefaultPool)
	succeeds("other")

	stream := watch(t, a, key)
	from := must(a.store.LastSeq(t.Context()))(t)
	gone := rival(t, a, "other")
	for range 3 { // by its owner, and when that has ended
		began := time.Now()
		status, body := asked(t, a, key, "POST", "/api/v1/tasks", `{"priority":"high","pool":"other","input":{"message":"hello"}}`)
		if status != http.StatusServiceUnavailable || !strings.Contains(body, "another node owns this shard now") || time.Since(began) > 5*time.Second {
			t.Errorf("a submit to the lost pool: %d %s after %v", status, body, time.Since(began))
		}
		eventually(t, "the pool stops here", func() bool { _, runs := a.node.Pool("other"); return !runs })
	}
	if status, body := asked(t, a, key, "GET", "/api/v1/queue?pool=other", ""); status != http.StatusServiceUnavailable {
		t.Errorf("the queue of the lost pool: %d %s", status, body)
	}
	for range 5 {
		succeeds(messages.DefaultPool)
	}
	if status, body := asked(t, a, key, "GET", "/api/v1/queue", ""); status != http.StatusOK || strings.Contains(body, `"other"`) {
		t.Errorf("the queue of the node: %d %s", status, body)
	}

	gone()
	eventually(t, "the pool is back", func() bool { _, err := run("other"); return err == nil })
	succeeds("other")
	last := must(a.store.LastSeq(t.Context()))(t)
	eventually(t, "the watcher has seen all", func() bool { return stream.has(last) })
	stream.mu.Lock()
	defer stream.mu.Unlock()
	var want []int64
	for page := range slices.Values(must2(a.store.Events(t.Context(), from, 10000))(t)) {
		if page.Seq <= last { // the task of the first try goes on
			want = append(want, page.Seq)
		}
	}
	if got := stream.seqs[slices.IndexFunc(stream.seqs, func(seq int64) bool { return seq > from }):]; stream.ended || slices.Contains(stream.kinds, "gap") || !slices.Equal(got[:len(want)], want) {
		t.Errorf("the stream has ended: %v; it brought %v, the log has %v", stream.ended, got, want)
	}
	select {
	case err := <-a.Fatal():
		t.Errorf("the node ended: %v", err)
	default:
	}
}

func must2[T, U any](v T, _ U, err error) func(*testing.T) T { return must(v, err) }

// fleetOfTwo is a node with a gateway in its default pool, and one in the pool other.
func fleetOfTwo(t *testing.T, cfg config.Config) (*App, *api.Client, messages.Secret) {
	t.Helper()
	cfg.Data, cfg.Node, cfg.Listen = t.TempDir(), "n", "127.0.0.1:0"
	a, err := Start(t.Context(), cfg, Deps{Logger: slog.New(slog.DiscardHandler), Registry: prometheus.NewRegistry(), Version: "test", BcryptCost: 4})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := a.Stop(); err != nil {
			t.Error(err)
		}
	})
	sims, err := openclawtest.NewFleet(openclawtest.SimConfig{Listen: "127.0.0.1:0", Gateways: 2, NamePrefix: "gw", Token: "secret", RunTime: 20 * time.Millisecond, MaxConcurrent: 4}, a.logger)
	if err != nil {
		t.Fatal(err)
	}
	if err := sims.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := sims.Stop(t.Context()); err != nil {
			t.Log(err)
		}
	})
	key, _ := a.AdminKey()
	must(newCommands(a).pools().Put(t.Context(), "", messages.Pool{ID: "other", Tenant: messages.DefaultTenant}))(t)
	for i, pool := range []string{messages.DefaultPool, "other"} {
		s := sims.Gateways()[i]
		body := fmt.Sprintf(`{"id":%q,"pool":%q,"url":%q,"token":"secret"}`, s.Name(), pool, s.URL())
		if status, body := asked(t, a, key, "POST", "/api/v1/gateways", body); status >= 300 {
			t.Fatal(status, body)
		}
	}
	return a, apiClient(t, a, key), key
}

// TestWhatRunsFollowsTheRows, whoever wrote them: an owner whose row is gone ends, one
// that another node had comes back, and one of an earlier row makes room for the next.
func TestWhatRunsFollowsTheRows(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	a := benchNode(t, t.TempDir(), 3, 1, nil)
	must(newCommands(a).pools().Put(ctx, "", messages.Pool{ID: "p", Tenant: messages.DefaultTenant}))(t)
	runs := func(id string) bool { _, ok := a.node.Gateway(id); return ok }
	for id, err := range map[string]error{"gw-0": a.repos.Gateways.Delete(ctx, "gw-0"), "p": a.repos.Pools.Delete(ctx, "p")} {
		if err != nil {
			t.Fatal(id, err)
		}
	}
	again := must(a.repos.Gateways.Get(ctx, "gw-1"))(t)
	if err := a.repos.Gateways.Delete(ctx, "gw-1"); err != nil {
		t.Fatal(err)
	}
	again.CreatedAt, again.Version = messages.Now(), 0
	must(a.repos.Gateways.Create(ctx, again))(t)
	before, _ := a.node.Gateway("gw-1")
	var mine messages.Fence
	for _, held := range a.lease.Held() {
		if held.Scope == messages.GatewayScope && held.Key == "gw-2" {
			mine = held
		}
	}
	if err := a.store.Release(ctx, mine); err != nil {
		t.Fatal(err)
	}
	must(a.store.Renew(ctx, messages.Node{ID: "rival"}, time.Hour))(t)
	theirs := must(a.store.Take(ctx, messages.GatewayScope, "gw-2", "rival"))(t)
	if err := a.lease.Look(ctx, messages.GatewayScope); err != nil {
		t.Fatal(err)
	}
	eventually(t, "what has no row ends", func() bool { _, pool := a.node.Pool("p"); return !pool && !runs("gw-0") })
	eventually(t, "the next gateway of that id has an owner of its own", func() bool { now, ok := a.node.Gateway("gw-1"); return ok && now != before })
	eventually(t, "the gateway of another node ends here", func() bool { return !runs("gw-2") })
	if err := a.store.Release(ctx, theirs); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the gateway is back", func() bool { return runs("gw-2") })
	if !runs("gw-1") || runs("gw-0") {
		t.Error("others have changed")
	}
}
