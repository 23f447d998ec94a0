package sqlite

import (
	"database/sql"
	"errors"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/dash-fleet/dash/persistence"
	"github.com/google/go-cmp/cmp"
)

func itoa(n int64) string { return strconv.FormatInt(n, 10) }

func schema(t *testing.T, dir string) []string {
	t.Helper()
	db, err := sql.Open("sqlite", dsn(dir, readerPragmas))
	if err != nil {
		t.Fatal(err)
	}
	rows, err := db.QueryContext(t.Context(), `SELECT type || ' ' || name FROM sqlite_master WHERE name NOT LIKE 'sqlite_%' AND name NOT LIKE 'schema_migrations%' ORDER BY 1`)
	if err != nil {
		t.Fatal(err)
	}
	var list []string
	for rows.Next() {
		var name string
		if err := rows.Scan(&name); err != nil {
			t.Fatal(err)
		}
		list = append(list, name)
	}
	if err := errors.Join(rows.Err(), rows.Close(), db.Close()); err != nil {
		t.Fatal(err)
	}
	return list
}

func TestMigrate(t *testing.T) {
	t.Parallel()
	ctx, dir := t.Context(), t.TempDir()
	steps, err := Migrate(ctx, dir, Up, 0, true)
	names := []string{"0001_init.sql", "0010_accounts.sql", "0030_home.sql", "0050_key_digest.sql", "0110_key_parent.sql"}
	if err != nil || !slices.EqualFunc(steps, names, func(s Step, name string) bool { return s.Name == name }) {
		t.Fatalf("plan %v, %v", steps, err)
	}
	if list := schema(t, dir); len(list) != 0 {
		t.Fatalf("a dry run made %v", list)
	}
	if _, err := Migrate(ctx, dir, Up, 0, false); err != nil {
		t.Fatal(err)
	}
	first := schema(t, dir)
	list, current, err := Status(ctx, dir)
	if err != nil || current != 110 || len(list) != len(names) || list[0].AppliedAt.IsZero() {
		t.Fatalf("status %v at %d, %v", list, current, err)
	}
	for _, bad := range []struct {
		d  Direction
		to int64
	}{{Up, 999}, {Down, 999}, {"sideways", 0}, {Up, -1}} {
		if _, err := Migrate(ctx, dir, bad.d, bad.to, false); err == nil {
			t.Errorf("%s to %d was accepted", bad.d, bad.to)
		}
	}
	steps, err = Migrate(ctx, dir, Down, 0, false)
	if err != nil || len(steps) != len(names) {
		t.Fatalf("down %v, %v", steps, err)
	}
	if list := schema(t, dir); len(list) != 0 {
		t.Fatalf("down left %v", list)
	}
	closeDB(t, openTest(t, Config{Dir: dir})) // up again by opening
	if d := cmp.Diff(schema(t, dir), first); d != "" {
		t.Error(d)
	}
}

func TestNewerSchema(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	exec := func(query string) {
		db := openTest(t, Config{Dir: dir})
		defer closeDB(t, db)
		if err := db.w.transact(t.Context(), func(c *conn) error { return c.text(query) }); err != nil {
			t.Fatal(err)
		}
	}
	// A newer dash added to the schema only: this one still runs on it.
	exec(`INSERT INTO schema_migrations (version_id, is_applied) VALUES (999, 1)`)
	exec(`UPDATE schema_compat SET min_binary = 999`)
	_, err := Open(t.Context(), Config{Dir: dir})
	if err == nil || !strings.Contains(err.Error(), "needs a dash that knows version 999") || !strings.Contains(err.Error(), "newer dash") {
		t.Fatalf("open of a newer store: %v", err)
	}
	if steps, err := Migrate(t.Context(), dir, Down, 1, false); err == nil || len(steps) > 0 || !strings.Contains(err.Error(), "only a dash that knows it can take it back") {
		t.Errorf("down of a newer store: %v, %v", steps, err)
	}
}

func TestWrongShards(t *testing.T) {
	t.Parallel()
	db := openTest(t, Config{})
	if err := db.w.transact(t.Context(), func(c *conn) error { return c.text(`UPDATE schema_compat SET shards = 16`) }); err != nil {
		t.Fatal(err)
	}
	closeDB(t, db)
	if _, err := Open(t.Context(), Config{Dir: db.cfg.Dir}); err == nil || !strings.Contains(err.Error(), "16 shards") {
		t.Fatalf("open: %v", err)
	}
}

// TestKeyConstraints checks the defaults of the table of keys.
func TestKeyConstraints(t *testing.T) {
	t.Parallel()
	db := openTest(t, Config{})
	defer closeDB(t, db)
	write := func(query string) error {
		return db.w.transact(t.Context(), func(c *conn) error { return c.text(query) })
	}
	if err := write(`INSERT INTO api_keys (key_id, key_hash, name, created_at) VALUES ('k', 'h', 'n', 1)`); err != nil {
		t.Fatal(err)
	}
	k, err := db.Repositories().Keys.Get(t.Context(), "k")
	if err != nil || k.RateLimit != 100 || !k.Active || k.Tenant != "default" || k.Version != 1 || !k.ExpiresAt.IsZero() {
		t.Errorf("defaults %+v, %v", k, err)
	}
	for _, bad := range []string{
		`INSERT INTO api_keys (key_id, key_hash, name, created_at) VALUES ('k', 'h2', 'n', 1)`,
		`INSERT INTO api_keys (key_id, key_hash, name, created_at) VALUES ('k2', 'h', 'n', 1)`,
		`INSERT INTO api_keys (key_id, key_hash, name, created_at, rate_limit) VALUES ('k3', 'h3', 'n', 1, -1)`,
		`INSERT INTO api_keys (key_id, key_hash, created_at) VALUES ('k4', 'h4', 1)`,
		`INSERT INTO task_labels (no, tenant, key, value) VALUES (1, 'default', 'a', 'b')`,
	} {
		if err := write(bad); err == nil || errors.Is(err, persistence.ErrUnavailable) {
			t.Errorf("%s: %v", bad, err)
		}
	}
}
