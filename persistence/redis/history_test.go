package redis

import (
	"errors"
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

// TestForeignHistory: a store is not taken up beside a database that does not know it.
func TestForeignHistory(t *testing.T) {
	t.Parallel()
	own := newMemory()
	db := openTest(t, Config{URL: testserver.NewRedis(t, testserver.RedisOptions{}).URL(), History: own})
	cfg := db.cfg
	if _, err := db.Commit(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	again := openTest(t, cfg) // nothing was drained yet: the mark was made at once
	if again.Lost() != nil {
		t.Errorf("lost: %v", again.Lost())
	}
	closeDB(t, again)
	// A store that was made anew after a loss is paired again by the next start.
	if err := db.writer.HDel(t.Context(), db.key("meta"), "paired").Err(); err != nil {
		t.Fatal(err)
	}
	closeDB(t, db)
	closeDB(t, openTest(t, cfg))
	other := cfg
	other.History = newMemory()
	var pair *PairError
	if _, err := Open(t.Context(), other); !errors.As(err, &pair) || pair.Dataset != own.mark.Dataset || pair.Batch == 0 {
		t.Fatalf("open beside an empty database: %v", err)
	}
	plain := cfg
	plain.History = nil
	free := openTest(t, plain)
	if err := free.writer.HDel(t.Context(), free.key("meta"), "paired").Err(); err != nil { // as the error says
		t.Fatal(err)
	}
	closeDB(t, free)
	closeDB(t, openTest(t, other))
	if m, err := other.History.Mark(t.Context()); err != nil || m.Dataset != pair.Dataset {
		t.Errorf("mark %+v, %v", m, err)
	}
}
