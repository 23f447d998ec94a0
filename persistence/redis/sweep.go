package redis

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"time"
)

const (
	// sweepChunk is how many tasks one script of a sweep removes, so that a
	// batch waits for it a few milliseconds at most.
	sweepChunk = 200
	// sweepWalk bounds the tasks that one sweep looks at.
	sweepWalk = 100_000
	// logChunk is how many entries of the log are read at once; one holds up to
	// 256 KiB.
	logChunk = 32
)

// Sweep removes what is older than before. Tasks are found along no, which is
// the order of creation up to the drift; rows that are still open are passed. A
// task whose end the history does not have yet stays.
func (db *DB) Sweep(ctx context.Context, before time.Time, limit int) (removed int, err error) {
	if err := db.lost.err(); err != nil {
		return 0, err
	}
	limit = page(limit)
	if before, err = db.drained(ctx, before); err != nil {
		return 0, fmt.Errorf("sweep: %w", err)
	}
	tasks, err := db.sweepTasks(ctx, before, limit)
	if err != nil {
		return tasks, fmt.Errorf("sweep tasks: %w", err)
	}
	log, err := db.sweepLog(ctx, before, limit)
	if err != nil {
		return tasks + log, fmt.Errorf("sweep events: %w", err)
	}
	return tasks + log, nil
}

func (db *DB) sweepTasks(ctx context.Context, before time.Time, limit int) (removed int, err error) {
	res, err := db.readTexts(ctx, "HMGET", db.key("meta"), "drift")
	if err != nil {
		return 0, err
	}
	drift, _ := strconv.ParseInt(res[0], 10, 64) // nothing: an empty store
	from, to := "-inf", "("+strconv.FormatInt(before.UnixMicro()+drift, 10)
	for seen := 0; removed < limit && seen < sweepWalk; seen += walk {
		ids, err := db.readTexts(ctx, "ZRANGEBYSCORE", db.key("order"), from, to, "LIMIT", 0, walk)
		if err != nil || len(ids) == 0 {
			return removed, err
		}
		rows, err := db.rows(ctx, ids)
		if err != nil {
			return removed, err
		}
		old := rows[:0]
		for i := range rows {
			if rows[i].open() {
				continue
			}
			t, _, _, err := rows[i].decode()
			if err != nil {
				return removed, err
			}
			if t.FinishedAt.Before(before) {
				old = append(old, rows[i])
			}
		}
		// The place to go on from is read before the rows go.
		last, err := db.readTexts(ctx, "ZMSCORE", db.key("order"), ids[len(ids)-1])
		if err != nil {
			return removed, err
		}
		for chunk := range slices.Chunk(old[:min(len(old), limit-removed)], sweepChunk) {
			n, err := db.remove(ctx, chunk)
			removed += n
			if err != nil {
				return removed, err
			}
		}
		if len(ids) < walk || last[0] == "" {
			return removed, nil
		}
		from = "(" + last[0]
	}
	return removed, nil
}

// remove takes tasks away that are still as they were read.
func (db *DB) remove(ctx context.Context, rows []row) (int, error) {
	args := []any{db.dataset()}
	for i := range rows {
		t, key, _, err := rows[i].decode()
		if err != nil {
			return 0, err
		}
		field := ""
		if key != "" {
			field = idemField(t.Tenant, key)
		}
		args = append(args, 5+len(t.Spec.GetLabels()), t.ID, rows[i].task, field, t.Session)
		for k := range t.Spec.GetLabels() {
			args = append(args, k)
		}
	}
	wctx, cancel := context.WithTimeout(ctx, writeLimit)
	defer cancel()
	res, err := db.eval(wctx, db.reader, db.scripts.sweep, args...)
	if err != nil {
		return 0, unavailable(ctx, "remove tasks", err)
	}
	n := integer(res[0])
	if n < 0 {
		return 0, db.lose(&LossError{Dataset: db.dataset(), Batch: db.batchSeen(), Cause: "the server holds another store than before"})
	}
	return int(n), nil
}

// sweepLog removes whole entries of the log from its beginning.
func (db *DB) sweepLog(ctx context.Context, before time.Time, limit int) (removed int, err error) {
	from, last := "-", int64(0)
	for seen, old := 0, true; old && seen < limit; {
		list, err := db.reader.XRangeN(ctx, db.key("log"), from, "+", int64(min(logChunk, limit-seen))).Result()
		if err != nil {
			return 0, unavailable(ctx, "read the log", err)
		}
		if len(list) == 0 {
			break
		}
		for _, x := range list {
			p, err := decodePiece(x)
			if err != nil {
				return 0, err
			}
			if old = p.at < before.UnixMicro(); !old {
				break
			}
			last, from = p.last, "("+x.ID
			seen++
		}
	}
	if last == 0 {
		return 0, nil
	}
	n, err := db.reader.XTrimMinID(ctx, db.key("log"), strconv.FormatInt(last+1, 10)).Result()
	return int(n), unavailable(ctx, "trim the log", err)
}
