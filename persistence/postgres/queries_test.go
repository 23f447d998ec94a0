package postgres

import (
	"context"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
)

var inserted = regexp.MustCompile(`INSERT INTO (\w+)(?: AS \w+)? \(([^)]*)\)`)

// TestOldQueries: a release before runs on this schema, so that a rollback of
// Dash needs no rollback of its store. The server still plans every statement
// of it, and every INSERT of it names all columns that must be given.
func TestOldQueries(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("testdata/queries_v10.sql")
	if err != nil {
		t.Fatal(err)
	}
	cfg := testConfig(t)
	if _, err := Migrate(t.Context(), cfg, Up, 0, false); err != nil {
		t.Fatal(err)
	}
	conn, err := pgx.Connect(t.Context(), cfg.URL.Reveal())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(t.Context())) }()
	n := 0
	for q := range strings.Lines(string(text)) {
		if q = strings.TrimSpace(q); strings.HasPrefix(q, "--") {
			continue
		}
		n++
		if _, err := conn.Prepare(t.Context(), "", q); err != nil {
			t.Errorf("%v\n%s", err, q)
			continue
		}
		for _, m := range inserted.FindAllStringSubmatch(q, -1) {
			for _, missing := range neededBeside(t, conn, m[1], strings.Split(m[2], ", ")) {
				t.Errorf("column %s.%s has no default and is not given by\n%s", m[1], missing, q)
			}
		}
	}
	if n < 60 {
		t.Errorf("only %d statements were looked at", n)
	}
}

// neededBeside lists the columns that a row must be given beside those named.
func neededBeside(t *testing.T, conn *pgx.Conn, table string, named []string) []string {
	t.Helper()
	rows, err := conn.Query(t.Context(), `SELECT column_name::text FROM information_schema.columns
 WHERE table_schema = current_schema() AND table_name = $1 AND is_nullable = 'NO' AND column_default IS NULL AND is_identity = 'NO' AND is_generated = 'NEVER'`, table)
	if err != nil {
		t.Fatal(err)
	}
	list, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	return slices.DeleteFunc(list, func(c string) bool { return slices.Contains(named, c) })
}
