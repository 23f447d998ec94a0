package redis

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"

	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/persistence"
	"github.com/dash-fleet/dash/persistence/internal/rows"
	goredis "github.com/redis/go-redis/v9"
)

const (
	// maxPage bounds one page of any list.
	maxPage = 10_000
	// walk is how many entries of an index are read at once: the server is
	// busy with them for less than a millisecond.
	walk = 500
)

func page(limit int) int {
	if limit <= 0 || limit > maxPage {
		return maxPage
	}
	return limit
}

// rows reads the parts of the tasks as of one moment. Ids without a row are left out.
func (db *DB) rows(ctx context.Context, ids []string) ([]row, error) {
	list, _, _, err := db.rowsOf(ctx, ids)
	return list, err
}

// rowsOf tells also which store the rows were read from, and its newest batch.
func (db *DB) rowsOf(ctx context.Context, ids []string) (list []row, dataset string, batch int64, err error) {
	if len(ids) == 0 {
		return nil, "", 0, nil
	}
	var parts [3]*goredis.SliceCmd
	var meta *goredis.SliceCmd
	_, err = db.reader.TxPipelined(ctx, func(p goredis.Pipeliner) error {
		for i, key := range [...]string{"task", "spec", "cancel"} {
			parts[i] = p.HMGet(ctx, db.key(key), ids...)
		}
		meta = p.HMGet(ctx, db.key("meta"), "dataset", "batch")
		return nil
	})
	if err != nil {
		return nil, "", 0, unavailable(ctx, "read tasks", err)
	}
	list = make([]row, 0, len(ids))
	for i, id := range ids {
		r := row{id, text(parts[0].Val()[i]), text(parts[1].Val()[i]), text(parts[2].Val()[i])}
		if r.task != "" {
			list = append(list, r)
		}
	}
	batch, _ = strconv.ParseInt(text(meta.Val()[1]), 10, 64) // nothing: an empty store
	return list, text(meta.Val()[0]), batch, nil
}

func (db *DB) decoded(ctx context.Context, ids []string) ([]messages.Task, error) {
	rows, err := db.rows(ctx, ids)
	if err != nil {
		return nil, err
	}
	list := make([]messages.Task, len(rows))
	for i := range rows {
		if list[i], _, _, err = rows[i].decode(); err != nil {
			return nil, err
		}
	}
	return list, nil
}

// Task returns one task.
func (db *DB) Task(ctx context.Context, tenant, id string) (messages.Task, error) {
	if err := ctx.Err(); err != nil {
		return messages.Task{}, err
	}
	list, err := db.decoded(ctx, []string{id})
	if err != nil {
		return messages.Task{}, err
	}
	if len(list) == 0 || (tenant != "" && list[0].Tenant != tenant) {
		return messages.Task{}, fmt.Errorf("task %s: %w", id, persistence.ErrNotFound)
	}
	return list[0], nil
}

// TaskBrief returns one task without long texts.
func (db *DB) TaskBrief(ctx context.Context, tenant, id string) (found messages.Task, err error) {
	if err := ctx.Err(); err != nil {
		return found, err
	}
	_, err = db.briefs(ctx, []string{id}, func(b *brief) (bool, error) {
		found, _, err = db.decode(ctx, b)
		return false, err
	})
	if err == nil && (found.ID == "" || (tenant != "" && found.Tenant != tenant)) {
		err = fmt.Errorf("task %s: %w", id, persistence.ErrNotFound)
	}
	if err != nil {
		return messages.Task{}, err
	}
	return found, nil
}

// Tasks pages through the matching tasks, newest first: in falling order of
// their commit, which nothing changes later.
func (db *DB) Tasks(ctx context.Context, f persistence.TaskFilter, cursor string, limit int) ([]messages.Task, string, error) {
	if err := ctx.Err(); err != nil {
		return nil, "", err
	}
	before, err := persistence.CursorPlace(cursor)
	if err != nil {
		return nil, "", err
	}
	p := rows.NewTaskPage(page(limit))
	to, err := db.matching(ctx, &f, before, f.SearchEnd(), func(t messages.Task, no int64, b *brief) bool {
		if f.Brief {
			return p.Add(t, no, b.size())
		}
		return p.Add(t, no, b.whole())
	})
	if err != nil {
		return nil, "", err
	}
	tasks, next := p.Cut()
	if !f.Brief {
		if tasks, err = db.inFull(ctx, &f, tasks); err != nil {
			return nil, "", err
		}
	}
	if next == "" && to > 0 {
		next = persistence.Cursor(to)
	}
	return tasks, next, nil
}

// OpenTasks pages by id through the open tasks of a pool.
func (db *DB) OpenTasks(ctx context.Context, pool, after string, limit int) ([]messages.Task, bool, error) {
	from := "-"
	if after != "" {
		from = "(" + after
	}
	limit = page(limit)
	for {
		ids, err := db.readTexts(ctx, "ZRANGEBYLEX", db.key("open:"+pool), from, "+", "LIMIT", 0, limit+1)
		if err != nil || len(ids) == 0 {
			return nil, false, err
		}
		p := rows.NewTaskPage(limit)
		_, err = db.briefs(ctx, ids, func(b *brief) (bool, error) {
			t, no, err := db.decode(ctx, b)
			return err == nil && (!open(&t) || p.Add(t, no, b.whole())), err
		})
		if err != nil {
			return nil, false, err
		}
		last := ids[len(ids)-1]
		if n := len(p.Tasks()); n > 0 {
			last = p.Tasks()[n-1].ID
		}
		list, err := db.inFull(ctx, &persistence.TaskFilter{}, p.Tasks())
		list = slices.DeleteFunc(list, func(t messages.Task) bool { return !open(&t) })
		more := p.More() || len(ids) > limit
		if err != nil || len(list) > 0 || !more {
			return list, more, err
		}
		from = "(" + last
	}
}

// open: a task may have ended, or be gone, since its id was read.
func open(t *messages.Task) bool { return t.ID != "" && !t.State.Terminal() }

// OpenPools lists the pools with an open task.
func (db *DB) OpenPools(ctx context.Context) (list []string, err error) {
	pools, err := db.readTexts(ctx, "HKEYS", db.key("pool"))
	if err != nil || len(pools) == 0 {
		return nil, err
	}
	exists := make([]*goredis.IntCmd, len(pools))
	_, err = db.reader.Pipelined(ctx, func(p goredis.Pipeliner) error {
		for i, pool := range pools {
			exists[i] = p.Exists(ctx, db.key("open:"+pool))
		}
		return nil
	})
	if err != nil {
		return nil, unavailable(ctx, "read open pools", err)
	}
	for i, pool := range pools {
		if exists[i].Val() > 0 {
			list = append(list, pool)
		}
	}
	return list, nil
}

// MaxSeq is the greatest queue sequence number that a pool ever used.
func (db *DB) MaxSeq(ctx context.Context, pool string) (int64, error) {
	res, err := db.readTexts(ctx, "HMGET", db.key("pool"), pool)
	if err != nil || len(res) == 0 || res[0] == "" {
		return 0, err
	}
	n, err := strconv.ParseInt(res[0], 10, 64)
	if err != nil {
		return 0, fmt.Errorf("sequence of pool %s: %w", pool, err)
	}
	return n, nil
}

// Transcript pages backwards through the succeeded tasks of a session.
func (db *DB) Transcript(ctx context.Context, tenant, session, before string, limit int) ([]messages.Task, bool, error) {
	if session == "" {
		return nil, false, nil
	}
	key := db.key("ended:" + sessionField(tenant, session))
	var from int64
	if before != "" {
		rank, err := db.reader.ZRevRank(ctx, key, before).Result()
		switch {
		case errors.Is(err, goredis.Nil):
			return nil, false, nil // swept, and all before it as well
		case err != nil:
			return nil, false, unavailable(ctx, "read transcript", err)
		}
		from = rank + 1
	}
	p := rows.NewTaskPage(page(limit))
	ids, err := db.readTexts(ctx, "ZREVRANGE", key, from, from+int64(page(limit)))
	if err != nil {
		return nil, false, err
	}
	_, err = db.briefs(ctx, ids, func(b *brief) (bool, error) {
		t, no, err := db.decode(ctx, b)
		return err == nil && (t.State != messages.Succeeded || p.Add(t, no, b.whole())), err
	})
	if err != nil {
		return nil, false, err
	}
	tasks, err := db.inFull(ctx, &persistence.TaskFilter{States: []messages.TaskState{messages.Succeeded}}, p.Tasks())
	slices.Reverse(tasks)
	return tasks, p.More(), err
}
