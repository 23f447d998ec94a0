package testserver_test

import (
	"os"
	"testing"

	"github.com/jackc/pgx/v5"
	"go.uber.org/goleak"

	"github.com/dash-fleet/dash/persistence/testserver"
)

func TestMain(m *testing.M) {
	if os.Getenv(envOwner) != "" {
		os.Exit(own())
	}
	goleak.VerifyTestMain(m)
}

func connect(t *testing.T, address string) *pgx.Conn {
	t.Helper()
	c, err := pgx.Connect(t.Context(), address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close(t.Context()) })
	return c
}

func TestPostgresDatabasesAreApart(t *testing.T) {
	t.Parallel()
	s := testserver.Postgres(t)
	one, two := connect(t, s.Database(t)), connect(t, s.Database(t))
	for _, c := range []*pgx.Conn{one, two} {
		if _, err := c.Exec(t.Context(), "CREATE TABLE t (n int)"); err != nil {
			t.Fatal(err)
		}
	}
	var fsync, commit string
	if err := one.QueryRow(t.Context(), "SELECT current_setting('fsync'), current_setting('synchronous_commit')").Scan(&fsync, &commit); err != nil || fsync != "on" || commit != "on" {
		t.Fatalf("fsync %s, synchronous_commit %s, %v", fsync, commit, err)
	}
}

func TestRedisDatabasesAreApart(t *testing.T) {
	t.Parallel()
	s := testserver.Redis(t)
	one, two := s.Database(t), s.Database(t)
	if one == two {
		t.Fatalf("the same database twice: %s", one)
	}
}
