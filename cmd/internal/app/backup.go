package app

import (
	"context"
	"fmt"
	"path/filepath"

	"github.com/dash-fleet/dash/cmd/internal/engine"
	"github.com/dash-fleet/dash/persistence"
	"github.com/dash-fleet/dash/persistence/backup"
	"github.com/dash-fleet/dash/persistence/backup/schedule"
)

// startBackups begins the schedule if there is one.
func (a *App) startBackups() error {
	if a.cfg.BackupEvery <= 0 {
		return nil
	}
	recipients, err := backup.ParseRecipients(a.cfg.BackupEncryptTo)
	if err != nil {
		return fmt.Errorf("backup-encrypt-to: %w", err)
	}
	dir := a.cfg.BackupDir
	if dir == "" {
		dir = filepath.Join(a.cfg.Data, "backups")
	}
	a.backups, err = schedule.Start(schedule.Config{
		Every: a.cfg.BackupEvery, Keep: a.cfg.BackupKeep, Dir: dir, Series: a.cfg.Node, By: a.deps.Version, Recipients: recipients,
		Sign:   a.secrets.Sign,
		Works:  a.works,
		Open:   func(ctx context.Context) (persistence.Snapshotter, error) { return engine.OpenSource(ctx, a.cfg) },
		Logger: a.logger, Registerer: a.deps.Registry,
	})
	if err != nil {
		return err
	}
	a.cleanup.add("backups", func(context.Context) error { a.backups.Stop(); return nil })
	return nil
}
