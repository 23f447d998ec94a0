package sqlite

import (
	"database/sql/driver"
	"slices"
	"strings"
	"testing"

	"github.com/dash-fleet/dash/persistence/storetest"
)

// tables reads the schema as SQLite itself tells it.
type tables struct{ *engine }

func TestSchema(t *testing.T) {
	t.Parallel()
	storetest.RunSchema(t, func(t testing.TB) storetest.Schema {
		e := &engine{db: openTest(t, Config{})}
		t.Cleanup(func() { closeDB(t, e.db) })
		return tables{e}
	})
}

func (s tables) Exec(t testing.TB, query string) error {
	t.Helper()
	return s.db.w.transact(t.Context(), func(c *conn) error { return c.text(query) })
}

func (s tables) Unprotect(t testing.TB) {
	t.Helper()
	for _, name := range []string{"audit_no_update", "audit_no_delete", "audit_in_order"} {
		if err := s.Exec(t, `DROP TRIGGER `+name); err != nil {
			t.Fatal(err)
		}
	}
}

func (s tables) pragma(t testing.TB, columns int, query string, args ...any) (rows [][]driver.Value) {
	t.Helper()
	err := s.db.readRows(t.Context(), func(v []driver.Value) error {
		rows = append(rows, slices.Clone(v))
		return nil
	}, columns, query, args...)
	if err != nil {
		t.Fatal(err)
	}
	return rows
}

// logical are the columns whose type SQLite cannot name.
var logical = map[string]string{"is_active": "bool", "time": "time", "permissions": "json"}

func (s tables) Columns(t testing.TB, table string) (list []storetest.Column) {
	for _, r := range s.pragma(t, 5, `SELECT name, type, "notnull", coalesce(dflt_value, ''), pk FROM pragma_table_info(?)`, table) {
		c := storetest.Column{
			Name: text(r[0]), Type: map[string]string{"TEXT": "text", "INTEGER": "int", "BLOB": "bytes"}[text(r[1])],
			NotNull: integer(r[2]) != 0 || integer(r[4]) != 0, Default: text(r[3]),
		}
		if strings.HasSuffix(c.Name, "_at") {
			c.Type = "time"
		}
		if kind := logical[c.Name]; kind != "" {
			c.Type = kind
		}
		switch {
		case c.Type == "bool":
			c.Default = map[string]string{"1": "true", "0": "false"}[c.Default]
		case c.Type == "json":
			c.Default = ""
		}
		list = append(list, c)
	}
	return list
}

func (s tables) Unique(t testing.TB, table string) (list []string) {
	for _, r := range s.pragma(t, 1, `SELECT name FROM pragma_table_info(?) WHERE pk = 1`, table) {
		list = append(list, text(r[0]))
	}
	for _, index := range s.pragma(t, 1, `SELECT name FROM pragma_index_list(?) WHERE "unique" AND NOT partial`, table) {
		var columns []string
		for _, r := range s.pragma(t, 1, `SELECT name FROM pragma_index_info(?) ORDER BY name`, text(index[0])) {
			columns = append(columns, text(r[0]))
		}
		list = append(list, strings.Join(columns, ","))
	}
	return list
}

func (s tables) ForeignKeys(t testing.TB, table string) (list []storetest.ForeignKey) {
	for _, r := range s.pragma(t, 3, `SELECT "from", "table", on_delete FROM pragma_foreign_key_list(?)`, table) {
		list = append(list, storetest.ForeignKey{Column: text(r[0]), Table: text(r[1]), OnDelete: text(r[2])})
	}
	return list
}
