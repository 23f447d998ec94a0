package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"time"
)

// checkpointRows is how many row writes wake the checkpointer: about 4 MiB of
// log in batches of one, less in large ones.
const checkpointRows = 4096

// pageSize halves the writes of the usual 4096; a log frame holds one page and 24 bytes.
const pageSize = 8192

// checkpointer copies the write-ahead log into the database beside the
// commits. It owns one goroutine and one connection, and the filler, which it
// starts with the first checkpoint: a store with little to write never gets there.
type checkpointer struct {
	cfg    Config
	w      *writer
	db     *sql.DB
	cancel context.CancelFunc
	done   chan struct{}
	fill   *filler // nil until the first checkpoint
}

func startCheckpointer(ctx context.Context, cfg Config, w *writer) (*checkpointer, error) {
	db, err := sql.Open("sqlite", dsn(cfg.Dir, ckptPragmas))
	if err != nil {
		return nil, fmt.Errorf("open checkpointer: %w", err)
	}
	db.SetMaxOpenConns(1)
	if err := db.PingContext(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("open checkpointer: %w", err), db.Close())
	}
	run, cancel := context.WithCancel(context.WithoutCancel(ctx))
	c := &checkpointer{cfg: cfg, w: w, db: db, cancel: cancel, done: make(chan struct{})}
	go c.run(run)
	return c, nil
}

func (c *checkpointer) stop() error {
	c.cancel()
	<-c.done
	if c.fill != nil {
		c.fill.stop()
	}
	return c.db.Close()
}

func (c *checkpointer) run(ctx context.Context) {
	defer close(c.done)
	for {
		select {
		case <-ctx.Done():
			return
		case <-c.w.wake:
		}
		c.w.written.Store(0)
		if c.fill == nil {
			c.fill = startFiller(ctx, c.cfg, c.w)
		}
		c.once(ctx)
	}
}

// once copies what no reader needs any more. A commit meanwhile adds to the
// log, so under constant load it never starts over by itself: past the bound
// the writer is asked to make it.
func (c *checkpointer) once(ctx context.Context) {
	start := time.Now()
	var busy, frames, copied int64
	err := c.db.QueryRowContext(ctx, `PRAGMA wal_checkpoint(PASSIVE)`).Scan(&busy, &frames, &copied)
	switch {
	case ctx.Err() != nil:
		return
	case err != nil:
		// A full disk ends here first. Commits meet it themselves and say so.
		c.cfg.Logger.Warn("checkpoint failed; the write-ahead log keeps growing until one succeeds", slog.Any("err", err))
		return
	}
	c.w.m.checkpoint.Observe(time.Since(start).Seconds())
	if frames*(pageSize+24) > c.cfg.WALBytes {
		c.w.needRestart.Store(true)
	}
}

// restartLog copies the rest of an overgrown log and lets the next commit
// start it over. Only the holder of the writer calls it. A reader that pins the
// log makes it a no-op; the checkpointer will ask again.
func (w *writer) restartLog() {
	if !w.needRestart.Swap(false) {
		return
	}
	if _, err := w.conn.run(stCheckpoint); err != nil {
		w.cfg.Logger.Warn("write-ahead log not restarted", slog.Any("err", err))
	}
}
