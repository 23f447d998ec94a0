package postgres

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/persistence"
	"github.com/dash-fleet/dash/persistence/storetest"
	"github.com/dash-fleet/dash/persistence/testserver"
)

func behind(t *testing.T, server *testserver.PostgresServer, mode string) Config {
	t.Helper()
	url, err := testserver.NewPgBouncer(t, server, mode).URL(server.Database(t))
	if err != nil {
		t.Fatal(err)
	}
	return Config{URL: messages.Secret(url)}
}

// TestPoolerOfTransactions: sessions that are handed around are refused at
// start, in words, whatever the pooler would let pass.
func TestPoolerOfTransactions(t *testing.T) {
	t.Parallel()
	server := testserver.NewPostgres(t, testserver.PostgresOptions{})
	for _, mode := range []string{"transaction", "statement"} {
		cfg := behind(t, server, mode)
		for range 3 { // with none, one and more sessions at the pooler
			db, err := Open(t.Context(), cfg)
			if err == nil {
				_ = db.Close()
			}
			var pooled *PoolingError
			if !errors.As(err, &pooled) {
				t.Fatalf("pool_mode %s: %v, want a *PoolingError", mode, err)
			}
			if next, fatal := Advice(err); !fatal || !strings.Contains(next, "pool_mode = session") {
				t.Errorf("pool_mode %s: advice %q, fatal %v", mode, next, fatal)
			}
		}
	}
}

// TestPoolerOfSessions: behind a pooler of sessions everything works, with the
// settings that Dash asks for.
func TestPoolerOfSessions(t *testing.T) {
	t.Parallel()
	server := testserver.NewPostgres(t, testserver.PostgresOptions{})
	cfg := behind(t, server, "session")
	db := openTest(t, cfg)
	var timeout, scan string
	if err := db.commits.QueryRow(t.Context(), `SELECT current_setting('statement_timeout'), current_setting('enable_seqscan')`).Scan(&timeout, &scan); err != nil || timeout != "1500ms" || scan != "off" {
		t.Errorf("settings of a commit's connection: %q, %q, %v", timeout, scan, err)
	}
	ctx, stop := context.WithCancel(t.Context())
	heard, ended := make(chan int64, 10), make(chan error, 1)
	go func() { ended <- db.WatchEvents(ctx, func(newest int64) { heard <- newest }) }()
	defer func() {
		stop()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	}()
	<-heard // it listens
	if _, err := db.Commit(t.Context(), []persistence.Op{newOp()}); err != nil {
		t.Fatal(err)
	}
	select {
	case <-heard:
	case <-time.After(10 * time.Second):
		t.Error("a commit was not heard of")
	}
}

// TestConformanceBehindPooler is the suite of all engines, behind a pooler.
func TestConformanceBehindPooler(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("the suite runs without the pooler")
	}
	server := testserver.NewPostgres(t, testserver.PostgresOptions{})
	pooler := testserver.NewPgBouncer(t, server, "session")
	storetest.Run(t, func(t testing.TB) storetest.Engine {
		url, err := pooler.URL(server.Database(t))
		if err != nil {
			t.Fatal(err)
		}
		return &engine{t, openTest(t, Config{URL: messages.Secret(url), Readers: 3})}
	})
}
