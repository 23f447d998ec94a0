package main

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/dash-fleet/dash/persistence/testserver"
)

// refusedDrill runs a command that must end with the exit code and returns its stderr.
func refusedDrill(t *testing.T, code int, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute) // for one that is not refused and goes on
	defer cancel()
	cmd := drillCommand(ctx, t, args...)
	var errs bytes.Buffer
	cmd.Stderr = &errs
	var exit *exec.ExitError
	if err := cmd.Run(); !errors.As(err, &exit) || exit.ExitCode() != code {
		t.Errorf("dash %s: %v, want exit code %d\n%s", args[0], err, code, errs.String())
	}
	return errs.String()
}

// TestRefusedBesideANode: what would take a shared store away from under a node
// is refused, the node goes on, and the same is done once the node has ended.
func TestRefusedBesideANode(t *testing.T) {
	t.Parallel()
	for _, engine := range []string{"postgres", "redis"} {
		t.Run(engine, func(t *testing.T) {
			t.Parallel()
			store, _ := drillEngines[engine](t)
			dir := t.TempDir()
			node := serveDrill(t, filepath.Join(dir, "node"), "", store)
			archive := filepath.Join(dir, "archive")
			dashDrill(t, append([]string{"backup", archive, "--data", filepath.Join(dir, "node")}, store.flags...)...)

			down := append([]string{"migrate", "down", "--to", "1", "--yes"}, store.flags...)
			if out := refusedDrill(t, exitConflict, down...); !strings.Contains(out, "run on this") || !strings.Contains(out, "next: stop them first") {
				t.Errorf("migrate down beside a node said:\n%s", out)
			}
			dashDrill(t, append(down, "--dry-run")...)
			if status := dashDrill(t, append([]string{"migrate", "status"}, store.flags...)...); strings.Contains(status, "pending") {
				t.Errorf("after the refusal:\n%s", status)
			}
			refusedDrill(t, exitConflict, append([]string{"restore", archive}, store.flags...)...)
			node.tasks(t)
			node.end(t)
			drillUntil(t, "the lease of the ended node is over", func() bool { return drillCommand(t.Context(), t, down...).Run() == nil })
			if status := dashDrill(t, append([]string{"migrate", "status"}, store.flags...)...); !strings.Contains(status, "pending") {
				t.Errorf("after going down:\n%s", status)
			}
		})
	}
}

// TestRestoredServersKnowEachOther: the queue that was restored is not taken up
// beside another database, also by the first node that starts.
func TestRestoredServersKnowEachOther(t *testing.T) {
	t.Parallel()
	from, to := drillEngines["redis"](t)
	dir := t.TempDir()
	serveDrill(t, filepath.Join(dir, "node"), "", from).end(t)
	archive := filepath.Join(dir, "archive")
	dashDrill(t, append([]string{"backup", archive}, from.flags...)...)
	dashDrill(t, append([]string{"restore", archive}, to.flags...)...)
	strange := slices.Clone(to.flags)
	strange[slices.Index(strange, "--postgres-url")+1] = testserver.Postgres(t).Database(t)
	out := refusedDrill(t, exitConflict, append([]string{"serve", "--listen", "127.0.0.1:0", "--data", filepath.Join(dir, "other")}, strange...)...)
	if !strings.Contains(out, "next:") {
		t.Errorf("the refusal said:\n%s", out)
	}
	serveDrill(t, filepath.Join(dir, "node"), "", to).end(t)
}

// TestRefusedArchive: an archive that cannot be restored leaves nothing at its
// target.
func TestRefusedArchive(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	broken, data := filepath.Join(dir, "broken"), filepath.Join(dir, "data")
	if err := os.WriteFile(broken, []byte("\x28\xb5\x2f\xfd and nothing that zstd knows"), 0o600); err != nil {
		t.Fatal(err)
	}
	refusedDrill(t, exitFailed, "restore", broken, "--data", data)
	if _, err := os.Stat(data); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the refused restore left %s: %v", data, err)
	}
}
