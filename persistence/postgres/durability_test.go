package postgres

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/persistence"
	"github.com/dash-fleet/dash/persistence/testserver"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// alter carries out statements as superuser, beside any store.
func alter(t *testing.T, url messages.Secret, statements ...string) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url.Reveal())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(t.Context())) }()
	for _, s := range statements {
		if _, err := conn.Exec(t.Context(), s); err != nil {
			t.Fatalf("%s: %v", s, err)
		}
	}
}

// TestSynchronousCommit: whatever database and server say, every connection
// waits for the disk; more than that is left as it is.
func TestSynchronousCommit(t *testing.T) {
	t.Parallel()
	for set, want := range map[string]string{"off": "on", "local": "on", "on": "on", "remote_write": "remote_write", "remote_apply": "remote_apply"} {
		t.Run(set, func(t *testing.T) {
			t.Parallel()
			server := testserver.NewPostgres(t, testserver.PostgresOptions{})
			cfg := Config{URL: messages.Secret(server.Database(t))}
			alter(t, cfg.URL, `DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET synchronous_commit = `+set+`', current_database()); END $$`)
			db := openTest(t, cfg)
			check := func(when string) {
				t.Helper()
				for name, pool := range map[string]*pgxpool.Pool{"reads": db.pool, "leases": db.leases, "keys": db.keys, "commits": db.commits} {
					var got string
					if err := pool.QueryRow(t.Context(), `SHOW synchronous_commit`).Scan(&got); err != nil || got != want {
						t.Errorf("%s, %s: synchronous_commit is %q, want %q (%v)", when, name, got, want, err)
					}
				}
			}
			check("at the start")
			if raised := db.Durability().Raised; (raised != "") != (set != want) || !strings.Contains(raised, set) && raised != "" {
				t.Errorf("told of what was raised: %q", raised)
			}
			// A reload changes sessions too that have not said what they want.
			if err := server.Set(t.Context(), "synchronous_commit", "off"); err != nil {
				t.Fatal(err)
			}
			check("after a reload")
		})
	}
}

// TestServerThatLoses: a server that does not sync, or writes pages that can be
// torn, is refused with the setting and the way out, unless that was accepted.
func TestServerThatLoses(t *testing.T) {
	t.Parallel()
	server := testserver.NewPostgres(t, testserver.PostgresOptions{})
	cfg := Config{URL: messages.Secret(server.Database(t)), WatchEvery: 50 * time.Millisecond}
	for _, setting := range []string{"fsync", "full_page_writes"} {
		if err := server.Set(t.Context(), setting, "off"); err != nil {
			t.Fatal(err)
		}
		db, err := Open(t.Context(), cfg)
		if err == nil {
			_ = db.Close()
		}
		var refused *DurabilityError
		if !errors.As(err, &refused) || !errors.Is(err, persistence.ErrUnavailable) {
			t.Fatalf("%s off: %v, want a *DurabilityError", setting, err)
		}
		for _, word := range []string{setting + " is off", "ALTER SYSTEM SET " + setting + " = on", "--postgres-accept-loss"} {
			if !strings.Contains(err.Error()+refused.Next, word) {
				t.Errorf("%s off: %v does not say %q", setting, err, word)
			}
		}
		accepting := cfg
		accepting.AcceptLoss = true
		db = openTest(t, accepting)
		if d := db.Durability(); !strings.Contains(d.Accepted, setting+" is off") || d.Wrong != nil {
			t.Errorf("%s off and accepted: %+v", setting, d)
		}
		if _, err := db.Commit(t.Context(), []persistence.Op{newOp()}); err != nil {
			t.Errorf("%s off and accepted: %v", setting, err)
		}
		if err := server.Set(t.Context(), setting, "on"); err != nil {
			t.Fatal(err)
		}
	}
}

// TestServerBeginsToLose: a setting that is changed while a node works stops
// its writes until it is put right.
func TestServerBeginsToLose(t *testing.T) {
	t.Parallel()
	server := testserver.NewPostgres(t, testserver.PostgresOptions{})
	db := openTest(t, Config{URL: messages.Secret(server.Database(t)), WatchEvery: 20 * time.Millisecond})
	commit := func() error {
		_, err := db.Commit(t.Context(), []persistence.Op{newOp()})
		return err
	}
	if err := commit(); err != nil {
		t.Fatal(err)
	}
	if err := server.Set(t.Context(), "fsync", "off"); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "a refusal", func() bool { return db.Durability().Wrong != nil })
	if err := commit(); !errors.Is(err, persistence.ErrUnavailable) || !strings.Contains(err.Error(), "fsync is off") {
		t.Errorf("commit without fsync: %v", err)
	}
	if err := server.Set(t.Context(), "fsync", "on"); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "the end of the refusal", func() bool { return db.Durability().Wrong == nil })
	if err := commit(); err != nil {
		t.Error(err)
	}
}

// TestUnloggedTable: a table that a crash empties is no place for what was accepted.
func TestUnloggedTable(t *testing.T) {
	t.Parallel()
	cfg := testConfig(t)
	if err := openTest(t, cfg).Close(); err != nil {
		t.Fatal(err)
	}
	alter(t, cfg.URL, `ALTER TABLE writers SET UNLOGGED`)
	db, err := Open(t.Context(), cfg)
	if err == nil {
		_ = db.Close()
	}
	if err == nil || !strings.Contains(err.Error(), "writers") || !strings.Contains(err.Error(), "UNLOGGED") {
		t.Errorf("open with an unlogged table: %v", err)
	}
}
