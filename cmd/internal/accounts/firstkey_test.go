package accounts

import (
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/persistence/sqlite"
)

func openStore(t *testing.T) *sqlite.DB {
	t.Helper()
	db, err := sqlite.Open(t.Context(), sqlite.Config{Dir: t.TempDir(), Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	return db
}

// start is one start of a node, and the key that it made.
type start struct {
	FirstKey
	adminKey messages.Secret
}

func startOn(db *sqlite.DB, file string) *start {
	return &start{FirstKey: FirstKey{Rows: db.Repositories(), File: file, BcryptCost: 4, Logger: slog.New(slog.DiscardHandler)}}
}

func (s *start) make(t *testing.T) (err error) {
	s.adminKey, err = s.Make(t.Context())
	return err
}

// TestFirstKey: of several processes on one store one makes the key, and only
// its file holds one; a crash before the file got its name loses no key.
func TestFirstKey(t *testing.T) {
	t.Parallel()
	db := openStore(t)
	nodes := make([]*start, 5)
	var wg sync.WaitGroup
	for i := range nodes {
		nodes[i] = startOn(db, filepath.Join(t.TempDir(), "admin.key"))
		wg.Go(func() {
			if err := nodes[i].make(t); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	var winner *start
	for _, n := range nodes {
		_, err := os.Stat(n.File)
		if made := !n.adminKey.Empty(); made != (err == nil) {
			t.Errorf("made a key: %v, file: %v", made, err)
		}
		if left, err := drafts(n.File); err != nil || len(left) > 0 {
			t.Errorf("drafts are left: %v, %v", left, err)
		}
		if !n.adminKey.Empty() {
			if winner != nil {
				t.Error("two nodes made a key")
			}
			winner = n
		}
	}
	if winner == nil {
		t.Fatal("no node made a key")
	}
	id, _, _ := strings.Cut(strings.TrimPrefix(winner.adminKey.Reveal(), "dash_"), "_")
	if err := os.Rename(winner.File, draftOf(winner.File, id)); err != nil {
		t.Fatal(err)
	}
	again := startOn(db, winner.File)
	if err := again.make(t); err != nil {
		t.Fatal(err)
	}
	if text, err := os.ReadFile(winner.File); err != nil || strings.TrimSpace(string(text)) != winner.adminKey.Reveal() {
		t.Errorf("after a crash the file holds %d bytes, %v", len(text), err)
	}
}

// TestFirstKeyOneFile: processes that start at once and share the file of the
// key, as nodes of one user do, do not write over each other.
func TestFirstKeyOneFile(t *testing.T) {
	t.Parallel()
	db := openStore(t)
	file := filepath.Join(t.TempDir(), "admin.key")
	nodes := make([]*start, 8)
	var wg sync.WaitGroup
	for i := range nodes {
		nodes[i] = startOn(db, file)
		wg.Go(func() {
			if err := nodes[i].make(t); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	keys, err := db.Repositories().Keys.List(t.Context())
	if err != nil || len(keys) != 1 || !strings.Contains(string(text), keys[0].ID) {
		t.Errorf("the file holds another key than the store: %v, %v", keys, err)
	}
	if left, err := drafts(file); err != nil || len(left) > 0 {
		t.Errorf("drafts are left: %v, %v", left, err)
	}
}

// TestFirstKeyKeepsAnother: the key of another store is moved away, not lost.
func TestFirstKeyKeepsAnother(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	db, err := sqlite.Open(t.Context(), sqlite.Config{Dir: dir, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	file := filepath.Join(dir, "admin.key")
	if err := os.WriteFile(file, []byte("dash_other\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	node := startOn(db, file)
	if err := node.make(t); err != nil {
		t.Fatal(err)
	}
	if text, err := os.ReadFile(file); err != nil || strings.TrimSpace(string(text)) != node.adminKey.Reveal() {
		t.Errorf("the file holds %q, %v", text, err)
	}
	old, err := filepath.Glob(file + ".*.old")
	if err != nil || len(old) != 1 {
		t.Fatalf("kept %v, %v", old, err)
	}
	if text, err := os.ReadFile(old[0]); err != nil || string(text) != "dash_other\n" {
		t.Errorf("kept %q, %v", text, err)
	}
}
