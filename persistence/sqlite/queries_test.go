package sqlite

import (
	"database/sql"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

var (
	numbered = regexp.MustCompile(`\?(\d+)`)
	inserted = regexp.MustCompile(`^INSERT (?:OR \w+ )?INTO (\w+)(?: AS \w+)? \(([^)]*)\)`)
)

// TestOldQueries: a release before runs on this schema, so that a rollback of
// Dash needs no rollback of its store. Every statement of it still compiles,
// and every INSERT of it names all columns that must be given.
func TestOldQueries(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("testdata/queries_v1.sql")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if _, err := Migrate(t.Context(), dir, Up, 0, false); err != nil {
		t.Fatal(err)
	}
	db, err := sql.Open("sqlite", dsn(dir, writerPragmas))
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	}()
	n := 0
	for q := range strings.Lines(string(text)) {
		if q = strings.TrimSpace(q); strings.HasPrefix(q, "--") {
			continue
		}
		n++
		rows, err := db.QueryContext(t.Context(), "EXPLAIN "+q, make([]any, parameters(q))...)
		if err != nil {
			t.Errorf("%v\n%s", err, q)
			continue
		}
		if err := rows.Close(); err != nil {
			t.Error(err)
		}
		if m := inserted.FindStringSubmatch(q); m != nil {
			for _, missing := range neededBeside(t, db, m[1], strings.Split(m[2], ",")) {
				t.Errorf("column %s.%s has no default and is not given by\n%s", m[1], missing, q)
			}
		}
	}
	if n < 100 {
		t.Errorf("only %d statements were looked at", n)
	}
}

// parameters is how many values a statement takes.
func parameters(q string) (n int) {
	for _, m := range numbered.FindAllStringSubmatch(q, -1) {
		i, _ := strconv.Atoi(m[1]) // digits
		n = max(n, i)
	}
	if n == 0 {
		n = strings.Count(q, "?")
	}
	return n
}

// neededBeside lists the columns that a row must be given beside those named.
func neededBeside(t *testing.T, db *sql.DB, table string, named []string) (missing []string) {
	t.Helper()
	for i := range named {
		named[i] = strings.Trim(strings.TrimSpace(named[i]), `"`)
	}
	rows, err := db.QueryContext(t.Context(), `SELECT name FROM pragma_table_info(?) WHERE "notnull" AND dflt_value IS NULL AND pk = 0`, table)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := rows.Close(); err != nil {
			t.Error(err)
		}
	}()
	for rows.Next() {
		var name string
		if err := rows.Scan(&name); err != nil {
			t.Fatal(err)
		}
		if !slices.Contains(named, name) {
			missing = append(missing, name)
		}
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return missing
}
