package redis

import (
	"context"
	"slices"
	"strconv"

	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/persistence"
)

// openScan is the largest number of open tasks that a filter by open states
// reads and sorts; with more of them the walk along all tasks finds them soon.
const openScan = 20_000

func isZero(f *persistence.TaskFilter) bool {
	return f.Tenant == "" && len(f.States) == 0 && f.Class == 0 && f.Pool == "" && f.Session == "" && f.Gateway == "" && f.Code == "" &&
		f.LabelKey == "" && f.Before.IsZero() && f.After.IsZero()
}

func matches(f *persistence.TaskFilter, t *messages.Task) bool {
	value, labelled := t.Spec.GetLabels()[f.LabelKey]
	return (f.Tenant == "" || f.Tenant == t.Tenant) && (f.Pool == "" || f.Pool == t.Pool) && (f.Class == 0 || f.Class == t.Class) &&
		(len(f.States) == 0 || slices.Contains(f.States, t.State)) && (f.Session == "" || f.Session == t.Session) &&
		(f.Gateway == "" || f.Gateway == t.Gateway) && (f.Code == "" || f.Code == t.Error.GetCode()) &&
		(f.LabelKey == "" || (labelled && (f.LabelVal == "" || f.LabelVal == value))) &&
		(f.Before.IsZero() || t.CreatedAt.Before(f.Before)) && (f.After.IsZero() || t.CreatedAt.After(f.After))
}

// matching calls each with the matching tasks in falling order of no, which is
// below before unless that is 0, until each returns false.
func (db *DB) matching(ctx context.Context, f *persistence.TaskFilter, before int64, each func(t messages.Task, no int64) bool) error {
	if len(f.States) > 0 && !slices.ContainsFunc(f.States, messages.TaskState.Terminal) && f.Session == "" && f.LabelKey == "" && f.Code == "" {
		ids, few, err := db.openIDs(ctx, f.Pool)
		if err != nil {
			return err
		}
		if few {
			return db.matchOpen(ctx, f, ids, before, each)
		}
	}
	from, to, err := db.bounds(ctx, f, before)
	if err != nil {
		return err
	}
	key := db.key(walkIndex(f))
	for {
		ids, err := db.readTexts(ctx, "ZREVRANGEBYSCORE", key, to, from, "LIMIT", 0, walk)
		if err != nil || len(ids) == 0 {
			return err
		}
		rows, err := db.rows(ctx, ids)
		if err != nil {
			return err
		}
		for i := range rows {
			more, err := match(f, &rows[i], each)
			if err != nil || !more {
				return err
			}
		}
		if len(ids) < walk {
			return nil
		}
		if to, err = db.below(ctx, key, ids[len(ids)-1]); err != nil || to == "" {
			return err
		}
	}
}

// walkIndex is the narrowest index, ordered by no, that holds all that match.
func walkIndex(f *persistence.TaskFilter) string {
	failed := func(s messages.TaskState) bool { return s > messages.Succeeded }
	switch {
	case f.Session != "":
		return "tasks:" + f.Session
	case f.Code != "", len(f.States) > 0 && !slices.ContainsFunc(f.States, func(s messages.TaskState) bool { return !failed(s) }):
		return "failed"
	case f.LabelKey != "":
		return "label:" + f.LabelKey
	}
	return "order"
}

// below is the upper bound that leaves out the entry and all above it; empty:
// the entry is gone, and with it the place where to go on.
func (db *DB) below(ctx context.Context, key, id string) (string, error) {
	res, err := db.readTexts(ctx, "ZMSCORE", key, id)
	if err != nil {
		return "", err
	}
	if res[0] == "" { // swept or replayed in between: its place is in order still
		if res, err = db.readTexts(ctx, "ZMSCORE", db.key("order"), id); err != nil || res[0] == "" {
			return "", err
		}
	}
	return "(" + res[0], nil
}

func match(f *persistence.TaskFilter, r *row, each func(messages.Task, int64) bool) (bool, error) {
	t, _, _, err := r.decode()
	if err != nil {
		return false, err
	}
	return !matches(f, &t) || each(t, r.no()), nil
}

// bounds are the scores between which a match must lie: created_at <= no <=
// created_at + drift.
func (db *DB) bounds(ctx context.Context, f *persistence.TaskFilter, before int64) (from, to string, err error) {
	from, to = "-inf", "+inf"
	if !f.After.IsZero() {
		from = "(" + strconv.FormatInt(f.After.UnixMicro(), 10)
	}
	if !f.Before.IsZero() {
		drift, err := db.readTexts(ctx, "HMGET", db.key("meta"), "drift")
		if err != nil {
			return "", "", err
		}
		n, err := strconv.ParseInt(drift[0], 10, 64)
		if err != nil {
			n = 0 // an empty store
		}
		limit := f.Before.UnixMicro() + n
		if before == 0 || limit < before {
			before = limit
		}
	}
	if before > 0 {
		to = "(" + strconv.FormatInt(before, 10)
	}
	return from, to, nil
}

// openIDs reads the open tasks of a pool, or of all, unless they are many.
func (db *DB) openIDs(ctx context.Context, pool string) (ids []string, few bool, err error) {
	pools := []string{pool}
	if pool == "" {
		if pools, err = db.OpenPools(ctx); err != nil {
			return nil, false, err
		}
	}
	for _, p := range pools {
		list, err := db.readTexts(ctx, "ZRANGE", db.key("open:"+p), 0, openScan-len(ids))
		if err != nil {
			return nil, false, err
		}
		if ids = append(ids, list...); len(ids) > openScan {
			return nil, false, nil
		}
	}
	return ids, true, nil
}

func (db *DB) matchOpen(ctx context.Context, f *persistence.TaskFilter, ids []string, before int64, each func(messages.Task, int64) bool) error {
	var all []row
	for chunk := range slices.Chunk(ids, walk) {
		rows, err := db.rows(ctx, chunk)
		if err != nil {
			return err
		}
		all = append(all, rows...)
	}
	slices.SortFunc(all, func(a, b row) int { return int(max(-1, min(1, b.no()-a.no()))) })
	for i := range all {
		if before > 0 && all[i].no() >= before {
			continue
		}
		more, err := match(f, &all[i], each)
		if err != nil || !more {
			return err
		}
	}
	return nil
}
