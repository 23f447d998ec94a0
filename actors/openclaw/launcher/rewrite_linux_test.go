package launcher

import (
	"bytes"
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/dash-fleet/dash/messages"
)

func (s Spec) configured(config map[string]any) Spec {
	s.Managed.Config = config
	return s
}

func mustRewrite(t *testing.T, l *Launcher, spec Spec, want Rewriting) {
	t.Helper()
	if got, err := l.Rewrite(t.Context(), spec); err != nil || got != want {
		t.Fatalf("Rewrite: %d %v, want %d", got, err, want)
	}
}

func mustEnd(t *testing.T, l *Launcher, id string, taken bool) {
	t.Helper()
	if err := l.Rewritten(t.Context(), id, taken); err != nil {
		t.Fatal(err)
	}
}

// TestRewrite: a living process gets its new file, and once it runs with it the
// next Dash finds nothing to do. Dash may die before and after each step.
func TestRewrite(t *testing.T) {
	t.Parallel()
	l := setup(t, nil)
	spec := Spec{ID: "gw"}
	mustRewrite(t, l.Launcher, spec, NeedsStart) // nothing lives
	ep := mustEnsure(t, l.Launcher, spec)
	wanted := spec.configured(map[string]any{"hooks": map[string]any{"enabled": true}})
	mustRewrite(t, l.Launcher, spec, Unneeded)
	l.Close() // the row was written, the file not yet
	for _, step := range []struct {
		does Rewriting
		died bool
	}{{Written, true}, {Present, true}, {Present, false}} {
		next := again(t, l.dir, nil)
		if got := mustEnsure(t, next, wanted); got.PID != ep.PID || !got.Adopted || !got.Stale {
			t.Fatalf("before %v got %+v, want pid %d adopted and stale", step, got, ep.PID)
		}
		mustRewrite(t, next, wanted, step.does)
		if !step.died {
			mustEnd(t, next, "gw", true)
			mustRewrite(t, next, wanted, Unneeded)
		}
		next.Close()
	}
	last := again(t, l.dir, nil)
	if got := mustEnsure(t, last, wanted); got.PID != ep.PID || got.Stale || got.Token != ep.Token {
		t.Errorf("afterwards got %+v, want pid %d adopted, with nothing left to do", got, ep.PID)
	}
}

// TestRewriteThatIsRefused: the process can start again by itself with the file
// that it runs with, however many it refused.
func TestRewriteThatIsRefused(t *testing.T) {
	t.Parallel()
	l := setup(t, nil)
	spec := Spec{ID: "gw"}
	mustEnsure(t, l.Launcher, spec)
	path := homeOf(t, l.Launcher, "gw").config()
	before, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	mustRewrite(t, l.Launcher, spec.configured(map[string]any{"first": true}), Written)
	mustRewrite(t, l.Launcher, spec.configured(map[string]any{"second": true}), Written)
	mustEnd(t, l.Launcher, "gw", false)
	if after, err := os.ReadFile(path); err != nil || !bytes.Equal(before, after) {
		t.Errorf("the file is %s %v, want it as before", after, err)
	}
	if got := mustEnsure(t, l.Launcher, spec.configured(map[string]any{"second": true})); !got.Stale {
		t.Error("the process runs with the one before, and nothing is said to be stale")
	}
	mustRewrite(t, l.Launcher, spec, Unneeded)
}

// TestRewritesInARowAreSeen: the daemon tells by the inode's number that its
// file was replaced, also when it looks only after the second time.
func TestRewritesInARowAreSeen(t *testing.T) {
	t.Parallel()
	l := setup(t, nil)
	spec := Spec{ID: "gw"}
	mustEnsure(t, l.Launcher, spec)
	path := homeOf(t, l.Launcher, "gw").config()
	inode := func() uint64 {
		var stat unix.Stat_t
		if err := unix.Stat(path, &stat); err != nil {
			t.Fatal(err)
		}
		return stat.Ino
	}
	for i := range 20 {
		mustRewrite(t, l.Launcher, spec.configured(map[string]any{"refused": i}), Written)
		before := inode()
		mustEnd(t, l.Launcher, "gw", false)
		mustRewrite(t, l.Launcher, spec.configured(map[string]any{"follows": i}), Written)
		if inode() == before {
			t.Fatalf("round %d: the file that follows has the inode of the one that was refused", i)
		}
		mustEnd(t, l.Launcher, "gw", false)
	}
}

// TestRewriteOfWhatOnlyAStartBrings writes no file.
func TestRewriteOfWhatOnlyAStartBrings(t *testing.T) {
	t.Parallel()
	l := setup(t, nil)
	spec := Spec{ID: "gw", Managed: messages.Managed{Env: map[string]string{"A_TOKEN": "1"}}}
	mustEnsure(t, l.Launcher, spec)
	spec.Managed.Env = map[string]string{"A_TOKEN": "2"}
	mustRewrite(t, l.Launcher, spec.configured(map[string]any{"hooks": nil}), NeedsStart)
	spec.Managed.Command = []string{"/nonexistent"}
	if _, err := l.Rewrite(t.Context(), spec); err == nil {
		t.Error("a command that is not there was accepted")
	}
}

// TestRewriteAfterAnUpgrade: of a process that a release without these
// fingerprints started nobody knows its command and environment. It is left as
// it is until something changes, and then only a start is sure to bring it.
func TestRewriteAfterAnUpgrade(t *testing.T) {
	t.Parallel()
	l := setup(t, nil)
	spec := Spec{ID: "gw"}
	ep := mustEnsure(t, l.Launcher, spec)
	dir := homeOf(t, l.Launcher, "gw")
	l.Close()
	rec, _, err := readRecord(dir)
	if err != nil {
		t.Fatal(err)
	}
	rec.prints = prints{}
	if err := rec.write(dir); err != nil {
		t.Fatal(err)
	}
	next := again(t, l.dir, nil)
	if got := mustEnsure(t, next, spec); got.PID != ep.PID || got.Stale {
		t.Errorf("got %+v, want pid %d adopted and left as it is", got, ep.PID)
	}
	spec.Managed.Env = map[string]string{"A_TOKEN": "1"}
	mustRewrite(t, next, spec, NeedsStart)
}
