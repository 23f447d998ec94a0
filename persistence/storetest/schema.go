package storetest

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/dash-fleet/dash/persistence"
)

// Column is a column as the engine's own catalogue tells it.
type Column struct {
	Name    string
	Type    string // "text", "int", "bool", "time", "json", "bytes"; the engine maps its own
	NotNull bool
	Default string // in the engine's words; empty for none
}

// ForeignKey is a reference as the engine's own catalogue tells it.
type ForeignKey struct{ Column, Table, OnDelete string }

// Schema lends tests the database under an engine.
type Schema interface {
	Engine
	// Exec runs a statement on the engine's tables.
	Exec(t testing.TB, query string) error
	// Unprotect takes the triggers off the audit log.
	Unprotect(t testing.TB)
	Columns(t testing.TB, table string) []Column
	// Unique lists the columns of each unique constraint or index, the
	// primary key among them, each sorted and joined by commas.
	Unique(t testing.TB, table string) []string
	ForeignKeys(t testing.TB, table string) []ForeignKey
}

// RunRepositories checks the repositories of an engine that has no Store.
func RunRepositories(t *testing.T, open func(t testing.TB) Engine) {
	for name, test := range repositoryTests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, open(t))
		})
	}
}

// RunGateways checks the repository of gateways alone, for what stands in front of it.
func RunGateways(t *testing.T, open func(t testing.TB) Engine) {
	for _, name := range []string{"gateways", "gateway update race", "audit in one step"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			repositoryTests[name](t, open(t))
		})
	}
}

// RunSchema checks the tables of accounts and of the audit log, and that nobody can change
// the audit log without being noticed.
func RunSchema(t *testing.T, open func(t testing.TB) Schema) {
	for name, test := range map[string]func(*testing.T, Schema){
		"columns": schemaColumns, "constraints": schemaConstraints, "audit is append-only": auditProtected, "tampering is found": auditTampered,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, open(t))
		})
	}
}

// The tables as they have to be. A column is "name type [!] [=default]";
// ! means NOT NULL. More columns may be there.
var specified = []struct {
	table   string
	columns []string
	unique  []string
	refs    []ForeignKey
}{
	{"api_keys", []string{
		"id int !", "key_id text !", "key_hash text !", "name text !", "permissions json !", "rate_limit int ! =100", "created_at time !",
		"expires_at time", "last_used_at time", "is_active bool ! =true", "tenant text ! ='default'", "version int ! =1",
	}, []string{"id", "key_id", "key_hash"}, nil},
	{"users", []string{
		"id text !", "email text !", "password_hash text !", "role text ! ='user'", "tenant text ! ='default'", "created_at time !", "version int ! =1",
	}, []string{"id", "email"}, nil},
	{"sessions", []string{"id text !", "user_id text !", "token_hash bytes !", "expires_at time !", "created_at time !"},
		[]string{"id", "token_hash"}, []ForeignKey{{"user_id", "users", "CASCADE"}}},
	{"tenants", []string{"id text !", "name text !", "created_at time !", "version int ! =1"}, []string{"id"}, nil},
	{"gateways", []string{"id text !", "tenant text ! ='default'", "version int !", "created_at time !"}, []string{"id"}, nil},
	{"pools", []string{"id text !", "tenant text ! ='default'", "version int !", "created_at time !"}, []string{"id"}, nil},
	{"audit", []string{
		"seq int !", "time time !", "tenant text !", "actor text !", "action text !", "target text !", "request_id text !", "detail text !", "hash bytes !",
	}, []string{"seq", "hash"}, nil},
}

func schemaColumns(t *testing.T, s Schema) {
	for _, want := range specified {
		have := map[string]string{}
		for _, c := range s.Columns(t, want.table) {
			line := c.Name + " " + c.Type
			if c.NotNull {
				line += " !"
			}
			if c.Default != "" {
				line += " =" + c.Default
			}
			have[c.Name] = line
		}
		for _, line := range want.columns {
			name, _, _ := strings.Cut(line, " ")
			if have[name] != line {
				t.Errorf("%s: column %q, want %q", want.table, have[name], line)
			}
		}
		unique := s.Unique(t, want.table)
		for _, u := range want.unique {
			if !slices.Contains(unique, u) {
				t.Errorf("%s: %s is not unique; %v are", want.table, u, unique)
			}
		}
		same(t, s.ForeignKeys(t, want.table), want.refs)
	}
}

// schemaConstraints writes past the repositories.
func schemaConstraints(t *testing.T, s Schema) {
	ctx := t.Context()
	if err := s.Repositories().Keys.Create(ctx, key("spare")); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Repositories().Users.Create(ctx, user("u")); err != nil {
		t.Fatal(err)
	}
	if err := s.Repositories().LoginSessions.Create(ctx, login("s", "u", 3600e9)); err != nil {
		t.Fatal(err)
	}
	for _, bad := range []string{
		`UPDATE api_keys SET rate_limit = -1`,
		`UPDATE api_keys SET name = NULL`,
		`UPDATE api_keys SET is_active = NULL`,
		`UPDATE users SET email = NULL`,
		`UPDATE users SET role = NULL`,
		`UPDATE sessions SET user_id = 'nobody'`,
		`INSERT INTO tenants SELECT * FROM tenants`,
	} {
		if err := s.Exec(t, bad); err == nil || errors.Is(err, persistence.ErrUnavailable) {
			t.Errorf("%s: %v", bad, err)
		}
	}
	if err := s.Exec(t, `DELETE FROM users`); err != nil {
		t.Fatal(err)
	}
	if list, err := s.Repositories().LoginSessions.List(ctx, "u"); err != nil || len(list) != 0 {
		t.Errorf("sessions that outlived their user: %v, %v", list, err)
	}
}

func auditProtected(t *testing.T, s Schema) {
	rows := audit(t, s, 3)
	for _, bad := range []string{
		`UPDATE audit SET actor = 'nobody' WHERE seq = 2`,
		`DELETE FROM audit WHERE seq = 3`,
		`DELETE FROM audit`,
	} {
		if err := s.Exec(t, bad); err == nil || !strings.Contains(err.Error(), "append-only") {
			t.Errorf("%s: %v", bad, err)
		}
	}
	list, err := s.Repositories().Audit.List(t.Context(), persistence.AuditFilter{})
	if err != nil {
		t.Fatal(err)
	}
	slices.Reverse(rows)
	same(t, list, rows)
}

// auditTampered: whoever takes the triggers off is found out.
func auditTampered(t *testing.T, s Schema) {
	audit(t, s, 6)
	s.Unprotect(t)
	exec := func(query string) {
		t.Helper()
		if err := s.Exec(t, query); err != nil {
			t.Fatal(err)
		}
	}
	verify := func(what string, row int64) {
		t.Helper()
		var broken *persistence.AuditBroken
		if _, err := s.Repositories().Audit.Verify(t.Context()); !errors.As(err, &broken) || broken.Seq != row {
			t.Errorf("%s: %v, want broken at row %d", what, err, row)
		}
	}
	if _, err := s.Repositories().Audit.Verify(t.Context()); err != nil {
		t.Fatal(err)
	}
	exec(`UPDATE audit SET actor = 'nobody' WHERE seq = 4`)
	verify("changed", 4)
	exec(`UPDATE audit SET actor = 'key:k1' WHERE seq = 4`)
	if _, err := s.Repositories().Audit.Verify(t.Context()); err != nil {
		t.Fatalf("changed back: %v", err)
	}
	exec(`DELETE FROM audit WHERE seq = 6`)
	verify("cut off at the end", 6)
	exec(`UPDATE audit_head SET seq = 5`)
	verify("cut off, and the end moved", 5)
	exec(`DELETE FROM audit WHERE seq = 2`)
	verify("removed in the middle", 2)
	exec(`DELETE FROM audit WHERE seq = 1`)
	verify("removed at the start", 1)
}
