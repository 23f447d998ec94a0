package sealed

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/persistence"
	"github.com/dash-fleet/dash/persistence/sqlite"
	"github.com/dash-fleet/dash/persistence/storetest"
)

func line(n byte) string {
	return base64.StdEncoding.EncodeToString([]byte(strings.Repeat(string(rune('a'+n)), keySize))) + "\n"
}

func keysOf(t testing.TB, text string) *Keys {
	t.Helper()
	k, err := Parse([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// TestRepositoriesHold: whoever uses the repository sees what he wrote.
func TestRepositoriesHold(t *testing.T) {
	t.Parallel()
	storetest.RunGateways(t, func(t testing.TB) storetest.Engine { return open(t) })
}

type engine struct {
	dir string
	db  *sqlite.DB
}

func open(t testing.TB) *engine {
	t.Helper()
	e := &engine{dir: t.TempDir()}
	e.start(t)
	return e
}

func (e *engine) start(t testing.TB) {
	t.Helper()
	db, err := sqlite.Open(t.Context(), sqlite.Config{Dir: e.dir})
	if err != nil {
		t.Fatal(err)
	}
	e.db = db
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
}

func (e *engine) Store() persistence.Store { return e.db.Store() }

func (e *engine) Repositories() persistence.Repositories {
	r := e.db.Repositories()
	k, err := Parse([]byte(line(0)))
	if err != nil {
		panic(err) // a test's own text
	}
	r.Gateways = Gateways(r.Gateways, k)
	return r
}

func (e *engine) Restart(t testing.TB) {
	t.Helper()
	if err := e.db.Close(); err != nil {
		t.Fatal(err)
	}
	e.start(t)
}

// secret is a gateway with a secret in every place that can hold one.
func secret(id string) messages.Gateway {
	return messages.Gateway{
		ID: id, Tenant: "acme", Pool: "acme", Token: "canary-token", MaxConcurrency: 1, Weight: 1, CreatedAt: messages.Now(),
		Managed: &messages.Managed{
			Command: []string{"/bin/true"}, Env: map[string]string{"K": "canary-env", "EMPTY": ""},
			Config: map[string]any{"models": map[string]any{"apiKey": "canary-config"}},
		},
	}
}

func text(g messages.Gateway) string { return fmt.Sprintf("%s %+v", g.Token.Reveal(), *g.Managed) }

func under(t testing.TB) persistence.Gateways {
	t.Helper()
	return open(t).db.Repositories().Gateways
}

func must[T any](v T, err error) func(testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func TestNothingIsStoredInTheClear(t *testing.T) {
	t.Parallel()
	raw, ctx := under(t), t.Context()
	r := Gateways(raw, keysOf(t, line(0)))
	g := secret("gw")
	made := must(r.Create(ctx, g))(t)
	if text(made) != text(g) {
		t.Errorf("created %s, want %s", text(made), text(g))
	}
	if stored := text(must(raw.Get(ctx, "gw"))(t)); strings.Contains(stored, "canary") {
		t.Errorf("the store holds %s", stored)
	}
	if again := must(r.Get(ctx, "gw"))(t); text(again) != text(g) {
		t.Errorf("read %s, want %s", text(again), text(g))
	}
}

// TestRotation: from the clear to a key, to another, and back for an older dash.
func TestRotation(t *testing.T) {
	t.Parallel()
	raw, ctx := under(t), t.Context()
	must(raw.Create(ctx, secret("gw")))(t)
	before := ""
	for i, file := range []string{line(0), line(1) + line(0), line(1), "clear\n" + line(1)} {
		r := Gateways(raw, keysOf(t, file))
		if got := text(must(r.Get(ctx, "gw"))(t)); got != text(secret("gw")) {
			t.Fatalf("file %d reads %s", i, got)
		}
		want := 1
		if i == 2 { // the same first key
			want = 0
		}
		if n := must(r.Rewrite(ctx))(t); n != want {
			t.Errorf("file %d: %d rows rewritten, want %d", i, n, want)
		}
		stored := text(must(raw.Get(ctx, "gw"))(t))
		if clear := strings.Contains(stored, "canary"); clear != (i == 3) {
			t.Errorf("file %d: the store holds %s", i, stored)
		}
		if want == 1 && stored == before {
			t.Errorf("file %d: nothing was changed", i)
		}
		before = stored
	}
	if _, err := Gateways(raw, &Keys{}).List(ctx); err != nil {
		t.Errorf("an older dash reads: %v", err)
	}
}

// TestSealedTextIsBoundToItsPlace: a row's secret is none of another's.
func TestSealedTextIsBoundToItsPlace(t *testing.T) {
	t.Parallel()
	raw, ctx := under(t), t.Context()
	r := Gateways(raw, keysOf(t, line(0)))
	must(r.Create(ctx, secret("gw")))(t)
	for name, change := range map[string]func(*messages.Gateway){
		"another gateway": func(g *messages.Gateway) { g.ID = "other" },
		"another tenant":  func(g *messages.Gateway) { g.ID, g.Tenant, g.Pool = "same", "evil", "evil" },
		"another field":   func(g *messages.Gateway) { g.ID, g.Token = "field", messages.Secret(g.Managed.Env["K"]) },
		"a changed text":  func(g *messages.Gateway) { g.ID, g.Token = "bits", g.Token[:len(g.Token)-8]+"AAAAAAAA" },
	} {
		g := must(raw.Get(ctx, "gw"))(t)
		change(&g)
		must(raw.Create(ctx, g))(t)
		if _, err := r.Get(ctx, g.ID); !errors.Is(err, ErrTampered) {
			t.Errorf("%s: %v, want %v", name, err, ErrTampered)
		}
	}
}

func TestMissingAndLostKeys(t *testing.T) {
	t.Parallel()
	raw, ctx := under(t), t.Context()
	old := keysOf(t, line(0))
	must(Gateways(raw, old).Create(ctx, secret("gw")))(t)
	var missing *MissingError
	var which *GatewayError
	err := Gateways(raw, keysOf(t, line(1))).Check(ctx)
	if !errors.As(err, &missing) || missing.KeyID != old.keys[0].id || !errors.As(err, &which) || which.Gateway != "gw" {
		t.Fatalf("with another key: %v", err)
	}
	r := Gateways(raw, keysOf(t, line(1)+"lost "+missing.KeyID))
	g := must(r.Get(ctx, "gw"))(t)
	if !g.Token.Empty() || g.Managed.Env["K"] != "" || len(g.Managed.Config) != 0 {
		t.Errorf("of a lost key came %s", text(g))
	}
	if n := must(r.Rewrite(ctx))(t); n != 1 {
		t.Errorf("%d rows rewritten, want 1", n)
	}
	if err := Gateways(raw, keysOf(t, line(1))).Check(ctx); err != nil {
		t.Errorf("afterwards: %v", err)
	}
}

// TestForgedPrefix: a text that looks sealed is refused where nothing is sealed,
// or one gateway would keep the whole list from being read.
func TestForgedPrefix(t *testing.T) {
	t.Parallel()
	r := Gateways(under(t), &Keys{})
	const forged = prefix + "00000000:AAAA"
	for name, forge := range map[string]func(*messages.Gateway){
		"token":  func(g *messages.Gateway) { g.Token = forged },
		"env":    func(g *messages.Gateway) { g.Managed.Env["A"] = forged },
		"config": func(g *messages.Gateway) { g.Managed.Config = map[string]any{configKey: forged} },
	} {
		g := secret("gw")
		forge(&g)
		var e *messages.Error
		if _, err := r.Create(context.Background(), g); !errors.As(err, &e) || e.Code != messages.CodeInvalid {
			t.Errorf("%s: error %v, want %s", name, err, messages.CodeInvalid)
		}
		if err := r.Check(t.Context()); err != nil {
			t.Fatalf("%s: no node starts on this store any more: %v", name, err)
		}
	}
}

func TestParse(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"":                         "no key",
		"# nothing\n":              "no key",
		"secret\n":                 "line 1: it is not a key",
		line(0) + line(0):          "line 2: the key is there twice",
		line(0) + "clear\n":        "line 2: clear",
		"a b c\n":                  "line 1: it is neither",
		strings.Repeat("x", 70000): "too long",
	} {
		_, err := Parse([]byte(text))
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%.20q: %v, want %q", text, err, want)
		}
	}
}

func TestMake(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "secret.key")
	if _, err := Read(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a missing file: %v", err)
	}
	if err := Make(path); err != nil {
		t.Fatal(err)
	}
	if info := must(os.Stat(path))(t); info.Mode() != 0o600 {
		t.Errorf("mode %v, want 0600", info.Mode())
	}
	first := must(Read(path))(t)
	if err := Make(path); !errors.Is(err, fs.ErrExist) {
		t.Errorf("made twice: %v", err)
	}
	if again := must(Read(path))(t); again.keys[0].id != first.keys[0].id || !again.Seals() || again.Exposed() {
		t.Error("the second start has another key")
	}
	if left := must(os.ReadDir(filepath.Dir(path)))(t); len(left) != 1 {
		t.Errorf("left behind: %v", left)
	}
}

func FuzzParse(f *testing.F) {
	f.Add("clear\n" + line(0) + "# x\nlost 00112233\n")
	f.Add("AAAA")
	f.Fuzz(func(t *testing.T, text string) {
		k, err := Parse([]byte(text))
		if err != nil {
			return
		}
		box, err := k.seal("plain", "place")
		if err != nil {
			t.Fatal(err)
		}
		if got, err := k.unseal(box, "place"); err != nil || got != "plain" {
			t.Errorf("sealed and opened %q: %v", got, err)
		}
		if diff := cmp.Diff(k.Seals(), box != "plain"); diff != "" {
			t.Error(diff)
		}
	})
}
