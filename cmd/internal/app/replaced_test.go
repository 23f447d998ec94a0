package app

import (
	"errors"
	"log/slog"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/dash-fleet/dash/cmd/internal/config"
	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/persistence"
	"github.com/dash-fleet/dash/persistence/sealed"
	"github.com/dash-fleet/dash/persistence/testserver"
)

// sharedNode is a node on a PostgreSQL of its own that works.
func sharedNode(t *testing.T) *App {
	t.Helper()
	cfg := config.Default()
	cfg.Store, cfg.PostgresURL = config.EnginePostgres, messages.Secret(testserver.Postgres(t).Database(t))
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
	return a
}

func givesUp(t *testing.T, a *App) {
	t.Helper()
	select {
	case err := <-a.Fatal():
		if !errors.Is(err, persistence.ErrFenced) || !StartsAnew(err) {
			t.Errorf("the node's life ended with %v", err)
		}
	case <-time.After(20 * time.Second):
		t.Errorf("another node works, and this one does not give up what it has: %q", a.Standby())
	}
}

// TestAReplacedNodeEndsItsLife, also while it cannot read the rows of the fleet.
func TestAReplacedNodeEndsItsLife(t *testing.T) {
	t.Parallel()
	a := sharedNode(t)
	foreign, err := sealed.Parse([]byte("MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="))
	if err != nil {
		t.Fatal(err)
	}
	unreadable := messages.Gateway{ID: "g", Tenant: messages.DefaultTenant, Pool: messages.DefaultPool, URL: "ws://127.0.0.1:1", Token: "secret", MaxConcurrency: 1, CreatedAt: messages.Now()}
	must(sealed.Gateways(a.engine.Repos.Gateways, foreign).Create(t.Context(), unreadable))(t)
	if _, err := a.repos.Gateways.List(t.Context()); err == nil {
		t.Fatal("the row can be read")
	}
	rival(t, a, messages.DefaultPool)
	a.fleet.Wake()
	givesUp(t, a)
}

// TestAStandbyKeepsNothing: a node that lost the default pool's shard in the middle of
// its take-over gives up the rest, or nobody could work.
func TestAStandbyKeepsNothing(t *testing.T) {
	t.Parallel()
	a := sharedNode(t)
	if err := a.fleet.Stop(t.Context()); err != nil { // as before the end of a take-over
		t.Fatal(err)
	}
	must(a.lease.Take(t.Context(), messages.ShardScope, "7"))(t)
	rival(t, a, messages.DefaultPool)
	if err := a.lease.Look(t.Context(), messages.ShardScope); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the shard ends here", func() bool { _, runs := a.node.Shard(messages.Shard(messages.DefaultPool)); return !runs })
	if err := a.takeOver(t.Context()); !errors.Is(err, persistence.ErrOwned) {
		t.Fatal(err)
	}
	givesUp(t, a)
}
