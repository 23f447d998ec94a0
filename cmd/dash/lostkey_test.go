package main

import (
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestLostAdminKey: whoever lost all keys makes one in the store, beside nodes
// that share it, after a restore, and on a stopped node's folder. It may do
// everything, and the audit log says who made it.
func TestLostAdminKey(t *testing.T) {
	t.Parallel()
	for engine, places := range drillEngines {
		t.Run(engine, func(t *testing.T) {
			t.Parallel()
			from, to := places(t)
			lostKey(t, engine == "sqlite", from, to)
		})
	}
}

// A file that was asked for and could not be written is said.
func TestKeyFileThatCannotBeWritten(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "none", "key")
	if said := keepKey(file, true, "k"); !strings.Contains(said, "could not be written to "+file) || !strings.Contains(said, "DASH_API_KEY") {
		t.Error(said)
	}
	if said := keepKey(file, false, "k"); strings.Contains(said, file) {
		t.Errorf("%s: nobody asked for that file", said)
	}
}

func lostKey(t *testing.T, embedded bool, from, to place) {
	dir := t.TempDir()
	data := filepath.Join(dir, "first")
	create := func(data string, p place) []string {
		return append([]string{"key", "create", "way-back", "--admin", "--data", data, "-o", "json"}, p.flags...)
	}
	first := serveDrill(t, data, "", from)
	before := first.key
	if embedded {
		said := refusedDrill(t, exitConflict, create(data, from)...)
		if !strings.Contains(said, "in use by process") || !strings.Contains(said, "stop the node") {
			t.Errorf("beside a node: %s", said)
		}
		first.end(t)
		rules(t, dashDrill(t, create(data, from)...), data, from)
	} else { // the node accepts it at once
		first.key = keyOf(t, dashDrill(t, create(data, from)...))
		mayEverything(t, first)
		first.end(t)
	}
	if kept, err := os.ReadFile(filepath.Join(data, "admin.key")); err != nil || strings.TrimSpace(string(kept)) != before {
		t.Errorf("the key file that was there holds %q, %v", kept, err)
	}

	archive, second := filepath.Join(dir, "archive"), filepath.Join(dir, "second")
	dashDrill(t, append([]string{"backup", archive, "--data", data}, from.flags...)...)
	dashDrill(t, append([]string{"restore", archive, "--data", second}, to.flags...)...)
	if err := os.MkdirAll(second, 0o700); err != nil { // a server engine needs no folder to be restored
		t.Fatal(err)
	}
	rules(t, dashDrill(t, create(second, to)...), second, to)
	file := filepath.Join(second, "admin.key")
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the key file: %v, %v", info, err)
	}
}

// rules starts a node on the store and wants the key to do everything.
func rules(t *testing.T, printed, data string, p place) {
	t.Helper()
	n := serveDrill(t, data, "", p)
	n.key = keyOf(t, printed)
	mayEverything(t, n)
	n.end(t)
}

func keyOf(t *testing.T, printed string) string {
	t.Helper()
	var k struct {
		Key string `json:"key"`
	}
	if err := json.Unmarshal([]byte(printed), &k); err != nil || k.Key == "" {
		t.Fatalf("no key in %s: %v", printed, err)
	}
	return k.Key
}

// mayEverything uses what only an admin key of all tenants may.
func mayEverything(t *testing.T, n *drillNode) {
	t.Helper()
	var log struct {
		Items []struct {
			Actor, Action, Target string
			Detail                map[string]any
		}
	}
	if code, err := n.call(t.Context(), http.MethodGet, "/api/v1/audit", "", &log); err != nil || code != http.StatusOK {
		t.Fatalf("the key is refused: %d %v", code, err)
	}
	id := strings.Split(n.key, "_")[1]
	for _, r := range log.Items {
		if r.Action == "createKey" && r.Target == id {
			if by, _ := r.Detail["by"].(string); r.Actor != "system" || r.Detail["offline"] != true || by == "" {
				t.Errorf("the audit log has %+v", r)
			}
			var v struct{ Intact bool }
			if code, err := n.call(t.Context(), http.MethodGet, "/api/v1/audit/verification", "", &v); err != nil || code != http.StatusOK || !v.Intact {
				t.Errorf("verify the audit log: %d %v %v", code, err, v.Intact)
			}
			return
		}
	}
	t.Errorf("the audit log has no row of key %s: %+v", id, log.Items)
}
