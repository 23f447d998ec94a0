package app

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/dash-fleet/dash/cmd/internal/config"
	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/persistence/backup"
	"github.com/dash-fleet/dash/persistence/testserver"
)

// TestOneNodeOfAFleetBacksUp the store that they share: the one that works, and
// after it the one that has taken over.
func TestOneNodeOfAFleetBacksUp(t *testing.T) {
	t.Parallel()
	cfg := config.Default()
	cfg.Store, cfg.PostgresURL = config.EnginePostgres, messages.Secret(testserver.Postgres(t).Database(t))
	cfg.BackupEvery, cfg.BackupKeep = 200*time.Millisecond, 5
	works, waits := helped(t, cfg, "works"), helped(t, cfg, "waits")
	archives := func(a *App) int {
		return len(must(backup.List(filepath.Join(a.cfg.Data, "backups"), a.cfg.Node))(t))
	}
	eventually(t, "the node that works makes backups", func() bool { return archives(works) > 2 })
	if n := archives(waits); n > 0 {
		t.Errorf("the node that stands by made %d backups", n)
	}
	if err := works.Stop(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the node that took over makes backups", func() bool { return archives(waits) > 0 })
}
