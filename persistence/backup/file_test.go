package backup_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/dash-fleet/dash/persistence"
	"github.com/dash-fleet/dash/persistence/backup"
)

func names(t *testing.T, dir string) (out []string) {
	t.Helper()
	files, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		out = append(out, f.Name())
	}
	return out
}

// watching looks at the folder while the archive is written.
type watching struct {
	*memory
	during func()
	fail   error
}

func (w *watching) Snapshot(context.Context) (persistence.Snapshot, error) { return w, nil }

func (w *watching) Rows(ctx context.Context, emit func(any) error) error {
	if err := w.memory.Rows(ctx, emit); err != nil {
		return err
	}
	w.during()
	return w.fail
}

func TestCreate(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "a")
	w := &watching{memory: sample(), during: func() {
		if got := names(t, dir); !slices.Equal(got, []string{"a.partial"}) {
			t.Errorf("while it is written the folder holds %v", got)
		}
		if _, err := backup.Create(t.Context(), path, sample(), backup.Options{}); !errors.Is(err, backup.ErrExists) {
			t.Errorf("a second writer of the same archive: %v", err)
		}
	}}
	f, err := backup.Create(t.Context(), path, w, backup.Options{})
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 || info.Size() != f.Bytes {
		t.Errorf("archive %v, %v; want mode 0600 and %d bytes", info, err, f.Bytes)
	}
	if got := names(t, dir); !slices.Equal(got, []string{"a"}) {
		t.Errorf("the folder holds %v", got)
	}
	in, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	again, err := backup.Verify(t.Context(), in, nil, nil)
	if err != nil || again.SHA256 != f.SHA256 {
		t.Errorf("verified as %+v, %v", again, err)
	}
	if err := in.Close(); err != nil {
		t.Error(err)
	}
	if _, err := backup.Create(t.Context(), path, sample(), backup.Options{}); !errors.Is(err, backup.ErrExists) {
		t.Errorf("over an archive: %v", err)
	}
}

func TestCreateLeavesNothing(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	broken := errors.New("the disk is gone")
	w := &watching{memory: sample(), during: func() {}, fail: broken}
	if _, err := backup.Create(t.Context(), filepath.Join(dir, "a"), w, backup.Options{}); !errors.Is(err, broken) {
		t.Errorf("create: %v", err)
	}
	if got := names(t, dir); len(got) != 0 {
		t.Errorf("a failed backup left %v", got)
	}
}

func TestPrune(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	touch := func(name string, age time.Duration) string {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		at := time.Now().Add(-age)
		if err := os.Chtimes(path, at, at); err != nil {
			t.Fatal(err)
		}
		return name
	}
	day := time.Date(2026, 11, 1, 4, 0, 0, 0, time.UTC)
	var mine []string
	for i := range 5 {
		mine = append(mine, touch(backup.Name("n-1", day.AddDate(0, 0, i), i%2 == 0), 0))
	}
	kept := []string{
		touch(backup.Name("n", day, false), 0), // another node, whose name this one's begins with
		touch(backup.Name("n-1-b", day, false), 0),
		touch("notes.txt", 1000*time.Hour),
		touch(backup.Name("n-1", day, false)+".partial", time.Hour), // may be under way
	}
	touch(backup.Name("n-1", day.AddDate(0, 0, 9), false)+".partial", 25*time.Hour)
	removed, err := backup.Prune(dir, "n-1", 2)
	if err != nil || len(removed) != 3 {
		t.Errorf("removed %v, %v", removed, err)
	}
	want := append(slices.Clone(mine[3:]), kept...)
	slices.Sort(want)
	if got := names(t, dir); !slices.Equal(got, want) {
		t.Errorf("left %v, want %v", got, want)
	}
	list, err := backup.List(dir, "n-1")
	if err != nil || len(list) != 2 || !list[0].At.Equal(day.AddDate(0, 0, 4)) {
		t.Errorf("list %v, %v", list, err)
	}
	if list, err := backup.List(filepath.Join(dir, "none"), "n"); err != nil || list != nil {
		t.Errorf("list of no folder: %v, %v", list, err)
	}
}
