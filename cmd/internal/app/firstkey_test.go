package app

import (
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/dash-fleet/dash/cmd/internal/config"
	"github.com/dash-fleet/dash/persistence/sqlite"
)

// TestFirstKey: of several processes on one store one makes the key, and only
// its file holds one; a crash before the file got its name loses no key.
func TestFirstKey(t *testing.T) {
	t.Parallel()
	db, err := sqlite.Open(t.Context(), sqlite.Config{Dir: t.TempDir(), Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	node := func(dir string) *App {
		return &App{repos: db.Repositories(), logger: slog.New(slog.DiscardHandler), deps: Deps{BcryptCost: 4},
			cfg: config.Config{AdminKeyFile: filepath.Join(dir, "admin.key")}}
	}
	nodes := make([]*App, 5)
	var wg sync.WaitGroup
	for i := range nodes {
		nodes[i] = node(t.TempDir())
		wg.Go(func() {
			if err := nodes[i].firstKey(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	var winner *App
	for _, n := range nodes {
		_, err := os.Stat(n.keyFile)
		if made := !n.adminKey.Empty(); made != (err == nil) {
			t.Errorf("made a key: %v, file: %v", made, err)
		}
		if _, err := os.Stat(n.keyFile + ".new"); !os.IsNotExist(err) {
			t.Errorf("a draft is left: %v", err)
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
	if err := os.Rename(winner.keyFile, winner.keyFile+".new"); err != nil {
		t.Fatal(err)
	}
	again := node(filepath.Dir(winner.keyFile))
	if err := again.firstKey(t.Context()); err != nil {
		t.Fatal(err)
	}
	if text, err := os.ReadFile(winner.keyFile); err != nil || strings.TrimSpace(string(text)) != winner.adminKey.Reveal() {
		t.Errorf("after a crash the file holds %d bytes, %v", len(text), err)
	}
}
