package redis

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/persistence"
	"github.com/prometheus/client_golang/prometheus"
	goredis "github.com/redis/go-redis/v9"
)

const (
	// drainEntries and drainTasks bound one step of the drainer.
	drainEntries = 256
	drainTasks   = 4000
	saveLimit    = 10 * time.Second
	// rememberTasks bounds what is kept in memory until the history has it,
	// about 600 bytes each and its texts, which rememberBytes bounds. When it is
	// full the oldest go, which is counted: they are still in the outbox.
	rememberTasks = 50_000
	rememberBytes = 64 << 20
)

// recent holds the accepted and ended tasks that this process has committed
// and the history does not have yet: the only copy outside of the server.
type recent struct {
	mu sync.Mutex
	on bool
	// overflow counts what was dropped; set before the first add.
	overflow prometheus.Counter
	records  []Record // rising Rev
	bytes    int      // of their texts
	dropped  int64
}

// textBytes is about what the texts of a task take.
func textBytes(t *messages.Task) int {
	return len(t.Spec.GetMessage()) + len(t.Result.GetText()) + len(t.Error.GetMessage())
}

func newRecent(on bool) *recent { return &recent{on: on} }

// add remembers what an OK op accepted or ended.
func (r *recent) add(op *persistence.Op, rev int64) {
	if !r.on {
		return
	}
	rec := Record{Rev: rev}
	switch {
	case op.Insert != nil:
		rec.Task, rec.IdemKey, rec.IdemHash = op.Insert.Task, op.Insert.IdemKey, op.Insert.IdemHash
	case op.Update != nil && (op.Update.Task.State.Terminal() || op.Update.From.Terminal()):
		rec.Task = op.Update.Task
	default:
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.records = append(r.records, rec)
	r.bytes += textBytes(&rec.Task)
	if len(r.records) > rememberTasks || r.bytes > rememberBytes {
		n := len(r.records)/10 + 1
		r.drop(n)
		r.dropped += int64(n)
		r.overflow.Add(float64(n))
	}
}

// drop takes the oldest away.
func (r *recent) drop(n int) {
	for i := range r.records[:n] {
		r.bytes -= textBytes(&r.records[i].Task)
	}
	r.records = slices.Delete(r.records, 0, n)
}

// forget drops what the history has now.
func (r *recent) forget(rev int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := 0
	for n < len(r.records) && r.records[n].Rev <= rev {
		n++
	}
	r.drop(n)
	if len(r.records) == 0 {
		r.dropped = 0 // the history has caught up
	}
}

// forgotten is how many were dropped for want of room.
func (r *recent) forgotten() int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.dropped
}

func (r *recent) list() []Record {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.records)
}

// drain moves what the outbox names to the history until ctx ends. Several
// nodes may do so at once: saving is idempotent, and the outbox is trimmed only
// up to what was saved.
func (db *DB) drain(ctx context.Context) {
	tick := time.NewTicker(db.cfg.DrainEvery)
	defer tick.Stop()
	failing := false
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		for more := true; more && ctx.Err() == nil && db.lost.err() == nil; {
			var err error
			more, err = db.drainStep(ctx)
			if (err != nil) != failing && ctx.Err() == nil {
				if failing = err != nil; failing {
					db.cfg.Logger.ErrorContext(ctx, "the task history does not take finished tasks; the outbox grows", slog.Any("err", err))
				} else {
					db.cfg.Logger.InfoContext(ctx, "the task history takes tasks again")
				}
			}
		}
	}
}

// Drain moves all that the outbox names now to the history and returns when
// the history has it.
func (db *DB) Drain(ctx context.Context) error {
	if db.cfg.History == nil {
		return nil
	}
	for more := true; more; {
		var err error
		if more, err = db.drainStep(ctx); err != nil {
			return err
		}
	}
	return nil
}

// drainStep saves the tasks of the oldest entries as they are now.
func (db *DB) drainStep(ctx context.Context) (more bool, err error) {
	sctx, cancel := context.WithTimeout(ctx, saveLimit)
	defer cancel()
	dataset := db.dataset()
	list, err := db.reader.XRangeN(sctx, db.key("outbox"), "-", "+", drainEntries).Result()
	if err != nil {
		return false, unavailable(ctx, "read the outbox", err)
	}
	if len(list) == 0 {
		db.metrics.lag.Set(0)
		return false, nil
	}
	mark, ids, used, err := outboxEntries(dataset, list)
	if err != nil {
		return false, err
	}
	db.metrics.lag.Set(time.Since(mark.At).Seconds())
	var records []Record
	for chunk := range slices.Chunk(ids, walk) {
		rows, now, batch, err := db.rowsOf(sctx, chunk)
		if err != nil {
			return false, err
		}
		if now != dataset || batch < mark.Batch {
			// The data went between two reads: what is missing here is not in the
			// history, and must not count as saved.
			return false, db.lose(&LossError{Dataset: dataset, Found: now, Batch: max(mark.Batch, db.batchSeen()), FoundBatch: batch, Cause: "data went while it was being saved in the task history"})
		}
		for i := range rows {
			t, key, hash, err := rows[i].decode()
			if err != nil {
				return false, err
			}
			records = append(records, Record{Task: t, IdemKey: key, IdemHash: hash, Rev: rows[i].rev()})
		}
	}
	if err := db.cfg.History.Save(sctx, mark, records); err != nil {
		return false, err
	}
	db.metrics.drained.Add(float64(len(records)))
	db.recent.forget(mark.Batch)
	_, err = db.reader.XTrimMinID(sctx, db.key("outbox"), strconv.FormatInt(mark.Batch+1, 10)).Result()
	return used < len(list) || len(list) == drainEntries, unavailable(ctx, "trim the outbox", err)
}

// outboxEntries collects the ids of as many entries as one step takes.
func outboxEntries(dataset string, list []goredis.XMessage) (mark Mark, ids []string, used int, err error) {
	mark.Dataset = dataset
	seen := map[string]bool{}
	for _, x := range list {
		id, _, _ := strings.Cut(x.ID, "-")
		at, seq := int64(0), int64(0)
		for _, f := range []struct {
			text string
			to   *int64
		}{{id, &mark.Batch}, {text(x.Values["t"]), &at}, {text(x.Values["s"]), &seq}} {
			if *f.to, err = strconv.ParseInt(f.text, 10, 64); err != nil {
				return mark, nil, 0, fmt.Errorf("outbox entry %s: %w", x.ID, err)
			}
		}
		mark.At, mark.Seq = fromMicros(at), seq
		for _, task := range strings.Split(text(x.Values["i"]), "\x00") {
			if !seen[task] {
				seen[task] = true
				ids = append(ids, task)
			}
		}
		if used++; len(ids) >= drainTasks {
			break
		}
	}
	return mark, ids, used, nil
}

// drained is the time before which the history has everything, if that is
// earlier than before.
func (db *DB) drained(ctx context.Context, before time.Time) (time.Time, error) {
	if db.cfg.History == nil {
		return before, nil
	}
	list, err := db.reader.XRangeN(ctx, db.key("outbox"), "-", "+", 1).Result()
	if err != nil {
		return before, unavailable(ctx, "read the outbox", err)
	}
	if len(list) == 0 {
		return before, nil
	}
	mark, _, _, err := outboxEntries("", list)
	if err == nil && mark.At.Before(before) {
		// Clocks of nodes differ: a minute is plenty, as days are kept.
		before = mark.At.Add(-time.Minute)
	}
	return before, err
}
