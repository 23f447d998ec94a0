package postgres

import (
	"context"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/persistence/testserver"
	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
)

// testConfig is a database of the test's own.
func testConfig(t testing.TB) Config {
	t.Helper()
	return Config{URL: messages.Secret(testserver.Postgres(t).Database(t))}
}

// openTest opens a store and closes it with t.
func openTest(t testing.TB, cfg Config) *DB {
	t.Helper()
	db, err := Open(t.Context(), cfg)
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return db
}

// objects lists what a schema holds.
func objects(t *testing.T, cfg Config) []string {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), cfg.URL.Reveal())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(t.Context())) }()
	rows, err := conn.Query(t.Context(), `SELECT relname::text FROM pg_class WHERE relnamespace = current_schema()::regnamespace AND relname NOT LIKE 'schema_migrations%'
 UNION ALL SELECT proname::text FROM pg_proc WHERE pronamespace = current_schema()::regnamespace ORDER BY 1`)
	if err != nil {
		t.Fatal(err)
	}
	list, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	return list
}

func TestMigrate(t *testing.T) {
	t.Parallel()
	ctx, cfg := t.Context(), testConfig(t)
	steps, err := Migrate(ctx, cfg, Up, 0, true)
	if err != nil || len(steps) == 0 || steps[0].Name != "0001_init.sql" {
		t.Fatalf("plan %v, %v", steps, err)
	}
	if list := objects(t, cfg); len(list) != 0 {
		t.Fatalf("a dry run made %v", list)
	}
	if _, err := Migrate(ctx, cfg, Up, 0, false); err != nil {
		t.Fatal(err)
	}
	first := objects(t, cfg)
	list, current, err := Status(ctx, cfg)
	if err != nil || current != steps[len(steps)-1].Version || len(list) != len(steps) || list[0].AppliedAt.IsZero() {
		t.Fatalf("status %v at %d, %v", list, current, err)
	}
	for _, bad := range []struct {
		d  Direction
		to int64
	}{{Up, 999}, {Down, -1}, {Up, -1}, {Down, 999}, {"sideways", 1}} {
		if _, err := Migrate(ctx, cfg, bad.d, bad.to, false); err == nil {
			t.Errorf("%s to %d was accepted", bad.d, bad.to)
		}
	}
	if _, err := Migrate(ctx, cfg, Down, 0, false); err != nil {
		t.Fatal(err)
	}
	if list := objects(t, cfg); len(list) != 0 {
		t.Fatalf("down left %v", list)
	}
	if _, err := Migrate(ctx, cfg, Up, 0, false); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(objects(t, cfg), first); d != "" {
		t.Errorf("up after down (-got +want):\n%s", d)
	}
}

// TestMigrateOnce has several nodes start at once on an empty database.
func TestMigrateOnce(t *testing.T) {
	t.Parallel()
	cfg := testConfig(t)
	cfg.Schema = "fleet"
	var wg sync.WaitGroup
	var mu sync.Mutex
	var all []Step
	for range 4 {
		wg.Go(func() {
			steps, err := Migrate(t.Context(), cfg, Up, 0, false)
			if err != nil {
				t.Errorf("migrate: %v", err)
			}
			mu.Lock()
			defer mu.Unlock()
			all = append(all, steps...)
		})
	}
	wg.Wait()
	names := map[string]int{}
	for _, s := range all {
		names[s.Name]++
	}
	if len(names) == 0 || slices.ContainsFunc(all, func(s Step) bool { return names[s.Name] != 1 }) {
		t.Errorf("steps %v", names)
	}
}

func TestOpenRefuses(t *testing.T) {
	t.Parallel()
	cfg := testConfig(t)
	openTest(t, cfg)
	conn, err := pgx.Connect(t.Context(), cfg.URL.Reveal())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(t.Context())) }()
	for what, query := range map[string]string{
		"needs a dash": `UPDATE schema_compat SET min_binary = 999`, "shards": `UPDATE schema_compat SET min_binary = 1, shards = 128`,
	} {
		if _, err := conn.Exec(t.Context(), query); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(t.Context(), cfg); err == nil || !strings.Contains(err.Error(), what) {
			t.Errorf("%s: %v", what, err)
		}
		if _, err := conn.Exec(t.Context(), `UPDATE schema_compat SET min_binary = 1, shards = 64`); err != nil {
			t.Fatal(err)
		}
	}
	for what, bad := range map[string]Config{"no PostgreSQL URL": {}, "schema name": {URL: cfg.URL, Schema: "a b"}, "cannot be read": {URL: "postgres://u:hush@[bad"}} {
		if _, err := Open(t.Context(), bad); err == nil || !strings.Contains(err.Error(), what) || strings.Contains(err.Error(), "hush") {
			t.Errorf("%s: %v", what, err)
		}
	}
}
