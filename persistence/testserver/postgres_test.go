package testserver_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/dash-fleet/dash/persistence/testserver"
)

func run(t *testing.T, c *pgx.Conn, sql string, args ...any) {
	t.Helper()
	if _, err := c.Exec(t.Context(), sql, args...); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

// count is a table's number of rows, seen on a connection of its own.
func count(t *testing.T, address string) int {
	t.Helper()
	var n int
	if err := connect(t, address).QueryRow(t.Context(), "SELECT count(*) FROM t").Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

// TestPostgresSurvivesItsEnds: each way to end the server ends it, and what was
// committed is there after a start on the same URL.
func TestPostgresSurvivesItsEnds(t *testing.T) {
	t.Parallel()
	s := testserver.NewPostgres(t, testserver.PostgresOptions{})
	run(t, connect(t, s.URL()), "CREATE TABLE t (n int)")
	for i, end := range []func() error{
		func() error { return s.Stop(testserver.Fast) },
		func() error { return s.Stop(testserver.Immediate) },
		s.Kill,
		s.Kill, // ended already: nothing to do
	} {
		if i < 3 {
			run(t, connect(t, s.URL()), "INSERT INTO t VALUES ($1)", i)
		}
		if err := end(); err != nil {
			t.Fatal(err)
		}
		if _, err := pgx.Connect(t.Context(), s.URL()); err == nil {
			t.Fatalf("end %d: it still answers", i)
		}
		if i == 2 {
			continue
		}
		if err := s.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if n := count(t, s.URL()); n != 3 {
		t.Fatalf("%d rows, want 3", n)
	}
	if err := s.Start(t.Context()); err == nil {
		t.Fatal("started a server that runs")
	}
}

func TestPostgresPauses(t *testing.T) {
	t.Parallel()
	s := testserver.NewPostgres(t, testserver.PostgresOptions{})
	c := connect(t, s.URL())
	if err := s.Pause(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if err := c.Ping(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("a paused server answered an open connection: %v", err)
	}
	if err := s.Resume(); err != nil {
		t.Fatal(err)
	}
	run(t, connect(t, s.URL()), "SELECT 1")
	if err := s.Set(t.Context(), "statement_timeout", "77s"); err != nil {
		t.Fatal(err)
	}
	var got string
	if err := connect(t, s.URL()).QueryRow(t.Context(), "SHOW statement_timeout").Scan(&got); err != nil || got != "77s" {
		t.Fatalf("statement_timeout %s, %v", got, err)
	}
	if err := s.Pause(); err != nil { // a paused server can be closed
		t.Fatal(err)
	}
}

func TestPostgresRefusesAnotherPassword(t *testing.T) {
	t.Parallel()
	cfg, err := pgx.ParseConfig(testserver.Postgres(t).URL())
	if err != nil {
		t.Fatal(err)
	}
	cfg.Password = "guess"
	if _, err := pgx.ConnectConfig(t.Context(), cfg); err == nil {
		t.Fatal("connected with a wrong password")
	}
}

func TestPostgresSaysWhyItDoesNotStart(t *testing.T) {
	t.Parallel()
	_, err := testserver.StartPostgres(t.Context(), testserver.PostgresOptions{Settings: map[string]string{"shared_buffers": "much"}})
	if err == nil {
		t.Fatal("started")
	}
	if got := err.Error(); !contains(got, "shared_buffers") {
		t.Fatalf("the error does not quote the log: %s", got)
	}
}

// TestReplicaTakesOver: what a primary with a synchronous replica committed is
// there after it was killed and the replica promoted.
func TestReplicaTakesOver(t *testing.T) {
	t.Parallel()
	primary := testserver.NewPostgres(t, testserver.PostgresOptions{})
	run(t, connect(t, primary.URL()), "CREATE TABLE t (n int)")
	replica := testserver.NewReplica(t, primary, testserver.ReplicaOptions{Synchronous: true})
	c := connect(t, primary.URL())
	for n := range 100 {
		run(t, c, "INSERT INTO t VALUES ($1)", n)
	}
	if _, err := connect(t, replica.URL()).Exec(t.Context(), "INSERT INTO t VALUES (0)"); err == nil {
		t.Fatal("a replica took a write before it was promoted")
	}
	if err := primary.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := replica.Promote(t.Context()); err != nil {
		t.Fatal(err)
	}
	run(t, connect(t, replica.URL()), "INSERT INTO t VALUES (100)")
	if n := count(t, replica.URL()); n != 101 {
		t.Fatalf("%d rows after the take-over, want 101", n)
	}
}

// TestCloseLeavesNothing: the folder is gone when Close returns.
func TestCloseLeavesNothing(t *testing.T) {
	t.Parallel()
	s, err := testserver.StartPostgres(t.Context(), testserver.PostgresOptions{})
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Dir(s.Dir())
	for range 2 {
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	for _, d := range []string{dir, dir + ".end"} {
		if _, err := os.Stat(d); !errors.Is(err, os.ErrNotExist) {
			t.Fatalf("%s is left: %v", d, err)
		}
	}
	if err := s.Start(t.Context()); err == nil {
		t.Fatal("started a closed server")
	}
}
