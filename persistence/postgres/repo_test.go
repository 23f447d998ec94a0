package postgres

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/persistence"
	"github.com/dash-fleet/dash/persistence/storetest"
)

// catalogue reads the schema as PostgreSQL itself tells it.
type catalogue struct{ db *DB }

// Store is not part of what is checked here.
func (c *catalogue) Store() persistence.Store               { return nil }
func (c *catalogue) Repositories() persistence.Repositories { return c.db.Repositories() }

func (c *catalogue) Restart(t testing.TB) {
	t.Helper()
	if err := c.db.Close(); err != nil {
		t.Fatalf("close: %v", err)
	}
	c.db = openTest(t, c.db.cfg)
}

func openCatalogue(t testing.TB) *catalogue {
	t.Helper()
	return &catalogue{openTest(t, testConfig(t))}
}

func TestRepositories(t *testing.T) {
	t.Parallel()
	storetest.RunRepositories(t, func(t testing.TB) storetest.Engine { return openCatalogue(t) })
}

func TestSchema(t *testing.T) {
	t.Parallel()
	storetest.RunSchema(t, func(t testing.TB) storetest.Schema { return openCatalogue(t) })
}

func (c *catalogue) Exec(t testing.TB, query string) error {
	t.Helper()
	_, err := c.db.pool.Exec(t.Context(), query)
	return err
}

func (c *catalogue) Unprotect(t testing.TB) {
	t.Helper()
	if err := c.Exec(t, `ALTER TABLE audit DISABLE TRIGGER USER`); err != nil {
		t.Fatal(err)
	}
}

func collect[T any](t testing.TB, c *catalogue, read pgx.RowToFunc[T], query, table string) []T {
	t.Helper()
	list, err := rowsOf(t.Context(), c.db, "read the catalogue", read, query, table)
	if err != nil {
		t.Fatal(err)
	}
	return list
}

func (c *catalogue) Columns(t testing.TB, table string) []storetest.Column {
	t.Helper()
	return collect(t, c, func(row pgx.CollectableRow) (col storetest.Column, err error) {
		err = row.Scan(&col.Name, &col.Type, &col.NotNull, &col.Default)
		col.Type = map[string]string{
			"text": "text", "bigint": "int", "integer": "int", "boolean": "bool", "bytea": "bytes", "jsonb": "json", "timestamp with time zone": "time",
		}[col.Type]
		col.Default = strings.TrimSuffix(col.Default, "::text")
		if col.Type == "time" || col.Type == "json" {
			col.Default = "" // now() and [] here, the writer's in other engines
		}
		return col, err
	}, `SELECT column_name::text, data_type::text, is_nullable = 'NO', coalesce(column_default::text, '') FROM information_schema.columns
 WHERE table_schema = current_schema() AND table_name = $1`, table)
}

func (c *catalogue) Unique(t testing.TB, table string) []string {
	t.Helper()
	return collect(t, c, pgx.RowTo[string], `SELECT string_agg(column_name::text, ',' ORDER BY column_name::text)
 FROM information_schema.table_constraints JOIN information_schema.key_column_usage USING (constraint_schema, constraint_name)
 WHERE constraint_schema = current_schema() AND table_constraints.table_name = $1 AND constraint_type IN ('UNIQUE', 'PRIMARY KEY') GROUP BY constraint_name`, table)
}

func (c *catalogue) ForeignKeys(t testing.TB, table string) []storetest.ForeignKey {
	t.Helper()
	list := collect(t, c, func(row pgx.CollectableRow) (f storetest.ForeignKey, err error) {
		return f, row.Scan(&f.Column, &f.Table, &f.OnDelete)
	}, `SELECT k.column_name::text, u.table_name::text, r.delete_rule::text FROM information_schema.referential_constraints r
 JOIN information_schema.key_column_usage k USING (constraint_schema, constraint_name)
 JOIN information_schema.constraint_column_usage u USING (constraint_schema, constraint_name)
 WHERE constraint_schema = current_schema() AND k.table_name = $1`, table)
	if len(list) == 0 {
		return nil
	}
	return list
}

// TestKeysDoNotWait: a request learns about its key while long reads hold all
// other connections.
func TestKeysDoNotWait(t *testing.T) {
	t.Parallel()
	cfg := testConfig(t)
	cfg.Readers = 1
	db := openTest(t, cfg)
	k := persistence.Key{Key: messages.Key{ID: "k", Name: "k", Active: true}, Hash: []byte("h")}
	if err := db.Repositories().Keys.Create(t.Context(), k); err != nil {
		t.Fatal(err)
	}
	held, err := db.pool.Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer held.Release()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	if _, err := db.Repositories().Keys.Get(ctx, "k"); err != nil {
		t.Error(err)
	}
	if v, err := db.Repositories().Keys.Versions(ctx, []string{"k"}); err != nil || v["k"] != 1 {
		t.Error(v, err)
	}
}
