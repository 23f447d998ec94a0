package redis

import (
	"testing"
	"time"

	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/persistence/postgres"
	"github.com/dash-fleet/dash/persistence/testserver"
)

// TestPostgresHistory rebuilds an emptied server from the history that the
// product keeps.
func TestPostgresHistory(t *testing.T) {
	t.Parallel()
	pg, err := postgres.Open(t.Context(), postgres.Config{URL: messages.Secret(testserver.Postgres(t).Database(t))})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := pg.Close(); err != nil {
			t.Error(err)
		}
	})
	server := testserver.NewRedis(t, testserver.RedisOptions{})
	db := openTest(t, Config{URL: server.URL(), History: pg.History(), DrainEvery: 20 * time.Millisecond})
	t.Cleanup(func() { closeDB(t, db) })
	l := startLoad(t, db)
	r := lossRound(t, db, l, func() {
		if _, err := server.Do(t.Context(), "FLUSHALL"); err != nil {
			t.Fatal(err)
		}
	})
	l.until(t, 5)
	l.end()
	l.kept(t, db, named(r))
	whole(t, db)
	if err := db.Drain(t.Context()); err != nil {
		t.Fatal(err)
	}
	// The history alone rebuilds it too: a new process remembers nothing.
	if _, err := server.Do(t.Context(), "FLUSHALL"); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	next := openTest(t, db.cfg)
	defer closeDB(t, next)
	if next.Lost() == nil {
		t.Fatal("a new process does not notice the loss")
	}
	r2, err := next.Recover(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if r2.Unaccounted() != "" {
		t.Errorf("unaccounted: %s", r2.Unaccounted())
	}
	again := named(r2)
	for id := range named(r) {
		again[id] = true
	}
	l.kept(t, next, again)
	whole(t, next)
}
