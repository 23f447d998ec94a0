package app

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/crypto/bcrypt"

	"github.com/dash-fleet/dash/cmd/internal/config"
	"github.com/dash-fleet/dash/http/api"
	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/persistence/testserver"
)

// patience is for what happens at once on a machine that has nothing else to do.
const patience = 30 * time.Second

// helped starts a node whose Redis may take its time, so that a busy machine
// looks like no outage, and which never looks at the event log by itself.
func helped(t *testing.T, cfg config.Config, name string) *App {
	t.Helper()
	cfg.Data, cfg.Node, cfg.Listen = t.TempDir(), name, "127.0.0.1:0"
	a, err := Start(t.Context(), cfg, Deps{
		Logger: slog.New(slog.DiscardHandler), Registry: prometheus.NewRegistry(), Version: "test", BcryptCost: bcrypt.MinCost,
		RedisTimeout: 2 * time.Second, TailEvery: time.Hour,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := a.Stop(); err != nil {
			t.Error(err)
		}
	})
	return a
}

// redisSays is what /health tells of the helping server.
func redisSays(t *testing.T, c *api.Client) string {
	t.Helper()
	health := must(c.GetReady(t.Context()))(t)
	for _, check := range *health.Checks {
		if check.Name == "redis" {
			if !check.Ok {
				t.Error("the node is not ready for the sake of Redis")
			}
			return *check.Detail
		}
	}
	t.Fatalf("/health says nothing of Redis: %+v", *health.Checks)
	return ""
}

// eventually waits for what follows from something that was done already.
func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !is(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not in %v: %s", patience, what)
		}
	}
}

// wantLimited checks that a call was refused for its key's limit.
func wantLimited(t *testing.T, err error) {
	t.Helper()
	var refusal *api.Error
	if !errors.As(err, &refusal) || refusal.Code != "rate_limited" || refusal.Status != 429 || refusal.RetryAfter < time.Second {
		t.Errorf("%v, want rate_limited and when to come back", err)
	}
}

// TestLimitsHoldOverNodes: two nodes with one Redis server share a key's limit.
func TestLimitsHoldOverNodes(t *testing.T) {
	t.Parallel()
	for _, engine := range []string{config.EnginePostgres, config.EngineRedis} {
		t.Run(engine, func(t *testing.T) {
			t.Parallel()
			cfg := config.Default()
			cfg.Store, cfg.PostgresURL = engine, messages.Secret(testserver.Postgres(t).Database(t))
			cfg.RedisURL = messages.Secret(testserver.Redis(t).Database(t))
			one := helped(t, cfg, "one")
			two := helped(t, cfg, "two")
			adminKey, _ := one.AdminKey()
			admin := apiClient(t, one, adminKey)
			if says := redisSays(t, admin); strings.Contains(says, "degraded") {
				t.Errorf("health: %s", says)
			}
			perMinute := 2 // one comes back in 30 s
			key := must(admin.CreateKey(t.Context(), api.CreateKey{Name: "k", Permissions: []api.Permission{"read"}, RateLimit: &perMinute}))(t)
			clients := []*api.Client{apiClient(t, one, messages.Secret(*key.Key)), apiClient(t, two, messages.Secret(*key.Key))}
			for _, c := range clients {
				must(c.ListPools(t.Context(), api.Page{}))(t)
			}
			for _, c := range clients {
				_, err := c.ListPools(t.Context(), api.Page{})
				wantLimited(t, err)
			}
			for range 300 { // more than the default limit
				must(admin.ListPools(t.Context(), api.Page{}))(t)
			}
		})
	}
}

// TestRedisAway: a node starts, serves and limits without the Redis server it
// was given, says so, and takes it up when it is there.
func TestRedisAway(t *testing.T) {
	t.Parallel()
	server := testserver.NewRedis(t, testserver.RedisOptions{})
	if err := server.Stop(); err != nil {
		t.Fatal(err)
	}
	cfg := config.Default()
	cfg.RedisURL = messages.Secret(server.URL())
	a := helped(t, cfg, "n")
	adminKey, _ := a.AdminKey()
	admin := apiClient(t, a, adminKey)
	if says := redisSays(t, admin); !strings.Contains(says, "degraded") || !strings.Contains(says, "alone") {
		t.Errorf("health: %s", says)
	}
	perMinute := 2
	make2 := func() *api.Client {
		key := must(admin.CreateKey(t.Context(), api.CreateKey{Name: "k", Permissions: []api.Permission{"read"}, RateLimit: &perMinute}))(t)
		return apiClient(t, a, messages.Secret(*key.Key))
	}
	limited := func() {
		t.Helper()
		c := make2()
		for range perMinute {
			must(c.ListPools(t.Context(), api.Page{}))(t)
		}
		_, err := c.ListPools(t.Context(), api.Page{})
		wantLimited(t, err)
	}
	limited()
	if err := server.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	eventually(t, "health says that Redis is back", func() bool { return !strings.Contains(redisSays(t, admin), "degraded") })
	limited()
	if err := server.Kill(); err != nil {
		t.Fatal(err)
	}
	limited()
	eventually(t, "health says that Redis is away", func() bool { return strings.Contains(redisSays(t, admin), "degraded") })
}

// TestStandbyHearsOfEvents: a node that stands by sees an event without polling.
func TestStandbyHearsOfEvents(t *testing.T) {
	t.Parallel()
	for _, engine := range []string{config.EnginePostgres, config.EngineRedis} {
		t.Run(engine, func(t *testing.T) {
			t.Parallel()
			cfg := config.Default()
			cfg.Store, cfg.PostgresURL = engine, messages.Secret(testserver.Postgres(t).Database(t))
			if engine == config.EngineRedis {
				cfg.RedisURL = messages.Secret(testserver.Redis(t).Database(t))
			}
			owner, standby := helped(t, cfg, "owner"), helped(t, cfg, "standby")
			if owner.Standby() != "" || standby.Standby() == "" {
				t.Fatalf("standing by: %q, %q", owner.Standby(), standby.Standby())
			}
			watch := standby.Commands().Events.Subscribe(1000)
			t.Cleanup(watch.Close)
			adminKey, _ := owner.AdminKey()
			admin := apiClient(t, owner, adminKey)
			for range 5 {
				task := must(admin.SubmitTask(t.Context(), api.SubmitTask{Priority: api.PriorityHigh, Input: api.SubmitInput{Message: "hello"}}))(t).Id
				begun, end := time.Now(), time.After(patience)
				for seen := false; !seen; {
					select {
					case e, open := <-watch.C():
						if !open {
							t.Fatal("the watch was cut")
						}
						seen = e.Subject == task
					case <-end:
						t.Fatal("the node that stands by has not seen the event")
					}
				}
				t.Logf("seen after %v", time.Since(begun))
			}
			followsThere(t, admin, apiClient(t, standby, adminKey))
		})
	}
}

// followsThere checks that a stream and a long-poll at one node end with a task that
// another node ends.
func followsThere(t *testing.T, owner, there *api.Client) {
	t.Helper()
	id := must(owner.SubmitTask(t.Context(), api.SubmitTask{Priority: api.PriorityHigh, Input: api.SubmitInput{Message: "hello"}}))(t).Id
	polled := make(chan error, 1)
	go func() {
		for { // a poll may end before the task does
			task, err := there.GetTask(t.Context(), id, 10*time.Second)
			if err != nil || task.State == api.TaskStateCancelled {
				polled <- err
				return
			}
		}
	}()
	var types []string
	for m, err := range there.StreamTask(t.Context(), id) {
		if err != nil {
			t.Fatal(err)
		}
		if types = append(types, m.Type); m.Type == "snapshot" {
			must(owner.CancelTask(t.Context(), id, api.CancelTask{}))(t)
		}
	}
	if want := []string{"position", "snapshot", "task.state", "final"}; !slices.Equal(types, want) {
		t.Errorf("the stream had %v, want %v", types, want)
	}
	if err := <-polled; err != nil {
		t.Error(err)
	}
}

// TestUnreadableRedisURL: it is refused before anything is made, and not repeated.
func TestUnreadableRedisURL(t *testing.T) {
	t.Parallel()
	cfg := config.Default()
	cfg.Data, cfg.Node, cfg.Listen = filepath.Join(t.TempDir(), "data"), "n", "127.0.0.1:0"
	cfg.RedisURL = "redis://:s3cret@127.0.0.1:port/0"
	a, err := Start(t.Context(), cfg, Deps{Logger: slog.New(slog.DiscardHandler), Registry: prometheus.NewRegistry(), BcryptCost: bcrypt.MinCost})
	if err == nil {
		if err := a.Stop(); err != nil {
			t.Error(err)
		}
		t.Fatal("the node started")
	}
	if strings.Contains(err.Error(), "s3cret") || !strings.Contains(err.Error(), "redis://user:password@host") {
		t.Errorf("%v, want how a URL is written, without what was given", err)
	}
	if _, err := os.Stat(cfg.Data); !os.IsNotExist(err) {
		t.Errorf("the data folder was touched: %v", err)
	}
}
