package archtest_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/dash-fleet/dash/"

// rule says what a part of the repository may import of the rest. A pattern is
// a package, or with /... a package and all below it.
type rule struct {
	part  string
	may   []string
	tests []string // what its tests may import beyond that
}

// rules are the arrows of ARCHITECTURE.md: they only point down; to messages/next,
// the table of next steps, they point from everywhere. The first
// rule that fits a package counts; a package without a rule fails the test.
var rules = []rule{
	{part: "messages/wire", may: []string{"messages"}},
	{part: "messages/..."},
	{part: "persistence/internal/rows", may: []string{"messages", "messages/wire", "persistence"}},
	{part: "persistence/internal/migrations", may: []string{"messages", "persistence"}},
	{part: "persistence/internal/storemetrics"},
	{part: "persistence/internal/room", may: []string{"persistence"}},
	{part: "persistence/sqlite/...", may: []string{"messages", "messages/wire", "persistence", "persistence/internal/..."}, tests: []string{"persistence/sqlite/...", "persistence/storetest", "persistence/backup/..."}},
	{part: "persistence/backup/...", may: []string{"messages", "persistence", "persistence/backup"},
		tests: []string{"persistence/backup/...", "persistence/sqlite", "persistence/postgres", "persistence/testserver"}},
	{part: "persistence/storetest/...", may: []string{"messages", "persistence"}, tests: []string{"persistence/..."}},
	{part: "persistence/postgres/...", may: []string{"messages", "messages/wire", "persistence", "persistence/internal/..."},
		tests: []string{"persistence/postgres/...", "persistence/storetest", "persistence/testserver", "persistence/backup/..."}},
	{part: "persistence/redis/...", may: []string{"messages", "messages/wire", "persistence", "persistence/internal/..."},
		tests: []string{"persistence/redis/...", "persistence/storetest", "persistence/testserver", "persistence/sqlite", "persistence/postgres", "persistence/backup/..."}},
	{part: "persistence/sealed", may: []string{"messages", "persistence"}, tests: []string{"persistence/sqlite", "persistence/postgres", "persistence/testserver", "persistence/storetest"}},
	{part: "persistence/testserver/...", tests: []string{"persistence/testserver/..."}},
	{part: "persistence", may: []string{"messages"}},
	{part: "cluster/...", may: []string{"messages", "persistence", "cluster/..."}},

	// The simulated gateway shares no code with the client it tests.
	{part: "actors/openclaw/openclawtest/...", may: []string{"messages"}, tests: []string{"actors/openclaw/openclawtest/..."}},
	{part: "actors/openclaw/...", may: []string{"messages", "actors/openclaw/..."}, tests: []string{"actors/openclaw/..."}},
	{part: "actors/feed", may: []string{"messages"}, tests: []string{"persistence", "persistence/postgres", "persistence/redis", "persistence/testserver"}},
	{part: "actors/...", may: []string{"messages", "persistence", "actors/..."},
		tests: []string{"persistence/sqlite", "persistence/storetest", "actors/openclaw/openclawtest"}},

	// http states the commands it needs; it knows nobody who carries them out.
	{part: "http/api/...", may: []string{"messages"}, tests: []string{"http/api/..."}},
	{part: "http/ratelimit", tests: []string{"persistence/testserver"}},
	{part: "http/...", may: []string{"messages", "http/..."}},

	// The real gateway and its fake model stand beside Dash, not inside it.
	{part: "soak/live", tests: []string{"http/api", "actors/openclaw/livetest", "actors/openclaw/fakemodel", "persistence/testserver"}},
	{part: "soak/...", may: []string{"soak/...", "http/api", "messages", "actors/openclaw/openclawtest", "persistence/testserver"}},

	{part: "cmd/internal/app/...", may: []string{"..."}},
	{part: "cmd/internal/config", may: []string{"messages"}},
	{part: "cmd/internal/telemetry", may: []string{"messages"}},
	{part: "cmd/internal/keystore", may: []string{"messages", "persistence", "http/auth"}, tests: []string{"persistence/postgres", "persistence/testserver"}},
	{part: "cmd/internal/tracing", may: []string{"messages"}},
	{part: "cmd/internal/accounts", may: []string{"messages", "persistence", "http/auth", "http/server", "cmd/internal/audit"}, tests: []string{"persistence/sqlite"}},
	{part: "cmd/internal/audit", may: []string{"persistence", "http/server"}},
	{part: "cmd/internal/networks", may: []string{"messages"}},
	{part: "cmd/internal/health", may: []string{"persistence", "http/server", "cmd/internal/config"}},
	{part: "cmd/internal/retention", may: []string{"messages", "persistence", "actors/dispatch"}},
	{part: "cmd/internal/redishelp", may: []string{"messages", "http/server", "http/ratelimit"}},
	{part: "cmd/internal/requests", may: []string{"messages", "persistence", "http/server", "actors", "actors/dispatch", "actors/feed", "actors/fleet", "actors/gateway", "actors/openclaw/launcher", "cmd/internal/accounts", "cmd/internal/audit"}},
	{part: "cmd/internal/engine", may: []string{"messages", "persistence", "persistence/sqlite", "persistence/postgres", "persistence/redis", "persistence/backup", "cmd/internal/config"}},
	{part: "cmd/internal/secrets", may: []string{"messages", "persistence", "persistence/backup", "persistence/sealed", "cmd/internal/config"}},
	{part: "cmd/internal/gcfloor"},
	{part: "cmd/internal/benchnode", may: []string{"messages", "http/server", "http/events", "actors/gateway", "actors/openclaw", "cmd/internal/app", "cmd/internal/config", "cmd/internal/gcfloor"}},
	{part: "cmd/internal/testcount"},
	{part: "cmd/internal/mutants"},
	{part: "cmd/internal/archtest"},
	{part: "cmd/dash/...", may: []string{"messages", "http/api", "actors/openclaw/openclawtest", "persistence", "persistence/backup", "persistence/sealed", "persistence/sqlite", "persistence/postgres", "persistence/redis",
		"cmd/internal/accounts", "cmd/internal/app/...", "cmd/internal/config", "cmd/internal/engine", "cmd/internal/secrets", "cmd/internal/gcfloor", "cmd/internal/telemetry"}, tests: []string{"persistence/testserver"}},
	{part: "bench/...", may: []string{"..."}},
}

// production packages that must not reach the simulator's code.
var noSimulator = []string{"actors/gateway", "actors/session", "actors/dispatch", "actors/commit", "actors/feed", "actors/supervise", "actors/openclaw"}

type pkg struct {
	ImportPath                         string
	Imports, TestImports, XTestImports []string
}

func packages(t *testing.T) []pkg {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "list", "-e", "-json=ImportPath,Imports,TestImports,XTestImports", "./...")
	cmd.Dir = "../../.."
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, stderr.String())
	}
	var all []pkg
	for d := json.NewDecoder(bytes.NewReader(out)); ; {
		var p pkg
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			return all
		} else if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
}

func fits(pattern, path string) bool {
	if pattern == "..." {
		return true
	}
	if base, ok := strings.CutSuffix(pattern, "/..."); ok {
		return path == base || strings.HasPrefix(path, base+"/")
	}
	return path == pattern
}

// forbidden lists the imports of path that its rule does not allow.
func forbidden(path string, imports []string, inTests bool) []string {
	i := slices.IndexFunc(rules, func(r rule) bool { return fits(r.part, path) })
	if i < 0 {
		return []string{"(no rule says what it may import)"}
	}
	may := slices.Clone(rules[i].may)
	if inTests {
		may = append(append(may, rules[i].tests...), path)
	}
	var bad []string
	for _, imp := range imports {
		other, ours := strings.CutPrefix(imp, module)
		if ours && other != "messages/next" && !slices.ContainsFunc(may, func(p string) bool { return fits(p, other) }) {
			bad = append(bad, other)
		}
	}
	return bad
}

func TestImportsPointDown(t *testing.T) {
	t.Parallel()
	all := packages(t)
	if len(all) < 10 {
		t.Fatalf("go list found only %d packages", len(all))
	}
	for _, p := range all {
		path := strings.TrimPrefix(p.ImportPath, module)
		for _, bad := range forbidden(path, p.Imports, false) {
			t.Errorf("%s must not import %s", path, bad)
		}
		for _, bad := range forbidden(path, append(p.TestImports, p.XTestImports...), true) {
			t.Errorf("a test of %s must not import %s", path, bad)
		}
		if slices.Contains(noSimulator, path) && slices.Contains(p.Imports, module+"actors/openclaw/openclawtest") {
			t.Errorf("%s must not import the simulator outside its tests", path)
		}
	}
}

// TestRulesRefuse keeps the test above able to fail.
func TestRulesRefuse(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ from, to string }{
		{"messages", "persistence"}, {"messages", "messages/wire"}, {"persistence", "persistence/sqlite"}, {"persistence", "cluster"},
		{"persistence/sqlite", "actors/openclaw"}, {"actors/openclaw", "persistence"}, {"actors/gateway", "persistence/sqlite"},
		{"actors/gateway", "http/api"}, {"actors/openclaw/openclawtest", "actors/openclaw"}, {"http/server", "actors/dispatch"},
		{"http/events", "persistence"}, {"http/server", "cluster"}, {"soak/judge", "http/server"}, {"soak/judge", "actors/session"},
		{"cmd/dash", "actors/gateway"}, {"cmd/dash", "http/server"}, {"elsewhere", "messages"},
	} {
		if len(forbidden(tt.from, []string{module + tt.to}, false)) == 0 {
			t.Errorf("%s may import %s", tt.from, tt.to)
		}
	}
	if bad := forbidden("http/server", []string{"net/http", module + "http/api", module + "messages"}, false); len(bad) > 0 {
		t.Errorf("http/server may not import %v", bad)
	}
}
