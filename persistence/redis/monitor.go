package redis

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"time"
)

// monitor looks at the server's settings now and then, and at once after each
// new connection. It ends with ctx.
func (db *DB) monitor(ctx context.Context) {
	tick := time.NewTicker(db.cfg.WatchEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		case <-db.poke:
		}
		db.watch(ctx)
	}
}

// watch compares the settings with what is accepted. A server that cannot be
// asked is left to those who write to it.
func (db *DB) watch(ctx context.Context) {
	wctx, cancel := context.WithTimeout(ctx, readLimit)
	defer cancel()
	d, err := db.readDurability(wctx)
	if err != nil {
		return
	}
	if d.run != db.run && d.aofEnabled {
		if err := db.rewriteAOF(wctx, false); err == nil {
			db.run = d.run
			// For other processes; one that misses it rewrites once more.
			_, _ = db.reader.HSet(wctx, db.key("meta"), "run", d.run).Result()
		}
	}
	before := db.Loss()
	var wrong *DurabilityError
	if err := d.check(db.cfg.AcceptLoss); errors.As(err, &wrong) {
		if old := db.durable.wrong.Swap(wrong); old == nil || *old != *wrong {
			db.cfg.Logger.ErrorContext(ctx, "redis is not durable any more; writes are refused", slog.Any("err", wrong))
		}
		return
	}
	if db.durable.wrong.Load() != nil {
		db.cfg.Logger.InfoContext(ctx, "redis is durable again; writes go on")
	}
	db.durable.set(d, db.cfg.AcceptLoss)
	if db.Loss() != before {
		db.durable.tell(ctx, db.cfg.Logger)
	}
	db.compare(wctx)
}

// compare looks for a loss of data while nothing is being written. It holds
// the writer, so that what it compares with stands still; a batch under way
// compares more than this.
func (db *DB) compare(ctx context.Context) {
	select {
	case db.w.sem <- struct{}{}:
	default:
		return
	}
	defer db.w.release()
	if db.lost.err() != nil {
		return
	}
	res, err := db.readTexts(ctx, "HMGET", db.key("meta"), "dataset", "batch")
	if err != nil || len(res) < 2 {
		return
	}
	batch, _ := strconv.ParseInt(res[1], 10, 64) // nothing: an empty store
	e := &LossError{Dataset: db.dataset(), Found: res[0], Batch: db.batchSeen(), FoundBatch: batch}
	switch {
	case e.Found == "":
		e.Cause = "the server is empty"
	case e.Found != e.Dataset:
		e.Cause = "the server holds another store than before"
	case batch < e.Batch:
		e.Cause = "the server's newest batch is older than one that it had acknowledged"
	default:
		raise(&db.w.least, batch)
		return
	}
	_ = db.lose(e)
}

// rewriteLimit bounds the wait for a rewrite of the append-only file.
const rewriteLimit = 5 * time.Minute

// rewriteAOF has the server write its append-only file anew, as it must after
// each start: a file cut inside a batch is taken without that batch, but the
// batch's first commands stay in the file without their end, and the next start
// would carry them out with the batch behind them, half of a batch. A server
// that forbids the command is left alone, with a warning.
func (db *DB) rewriteAOF(ctx context.Context, wait bool) error {
	err := db.reader.Do(ctx, "BGREWRITEAOF").Err()
	switch {
	case err == nil, strings.Contains(err.Error(), "in progress"), strings.Contains(err.Error(), "scheduled"):
	case fateOf(err) == refused:
		db.cfg.Logger.WarnContext(ctx, "redis does not let Dash rewrite its append-only file; if its last end was unclean, run BGREWRITEAOF before it stops again", slog.Any("err", err))
		return nil
	default:
		return unavailable(ctx, "rewrite the append-only file", err)
	}
	if !wait {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, rewriteLimit)
	defer cancel()
	for {
		info, err := db.reader.Info(ctx, "persistence").Result()
		switch {
		case err != nil:
			return unavailable(ctx, "wait for the rewritten append-only file", err)
		case strings.Contains(info, "aof_enabled:0"):
			return nil
		case strings.Contains(info, "aof_rewrite_in_progress:0") && strings.Contains(info, "aof_rewrite_scheduled:0"):
			if !strings.Contains(info, "aof_last_bgrewrite_status:ok") {
				return errors.New("redis could not rewrite its append-only file: free space on its disk and look at its log")
			}
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for the rewritten append-only file: %w", ctx.Err())
		case <-time.After(50 * time.Millisecond):
		}
	}
}
