package redis

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/persistence"
	"github.com/dash-fleet/dash/persistence/internal/rows"
	goredis "github.com/redis/go-redis/v9"
)

// openScan is the largest number of open tasks that a filter by open states
// reads and sorts; with more of them the walk along all tasks finds them soon.
const openScan = 20_000

func matches(f *persistence.TaskFilter, t *messages.Task) bool {
	value, labelled := t.Spec.GetLabels()[f.LabelKey]
	return (f.Tenant == "" || f.Tenant == t.Tenant) && (f.Pool == "" || f.Pool == t.Pool) && (f.Class == 0 || f.Class == t.Class) &&
		(len(f.States) == 0 || slices.Contains(f.States, t.State)) && (f.Session == "" || f.Session == t.Session) &&
		(f.Gateway == "" || f.Gateway == t.Gateway) && (f.Code == "" || f.Code == t.Error.GetCode()) &&
		(f.LabelKey == "" || (labelled && (f.LabelVal == "" || f.LabelVal == value))) && f.MatchesID(t.ID) &&
		(f.Before.IsZero() || t.CreatedAt.Before(f.Before)) && (f.After.IsZero() || t.CreatedAt.After(f.After))
}

// matching calls each with the matching tasks in falling order of no, which is
// below before unless that is 0, until each returns false. A search for ids
// ends early when it is past end (zero: never); to is then how far down it
// looked, 0 otherwise.
func (db *DB) matching(ctx context.Context, f *persistence.TaskFilter, before int64, end time.Time, each func(t messages.Task, no int64, b *brief) bool) (to int64, err error) {
	if f.OnlyOpen() && (f.ByID() || f.Session == "" && f.LabelKey == "" && f.Code == "") {
		ids, few, err := db.openIDs(ctx, f)
		if err != nil {
			return 0, err
		}
		if few {
			return 0, db.matchOpen(ctx, f, ids, before, each)
		}
		end = time.Time{} // many match, so a page is soon full
	}
	from, top, err := db.bounds(ctx, f, before)
	if err != nil {
		return 0, err
	}
	n := walk
	if f.ByID() {
		n = rows.SearchStep
	}
	for {
		ids, lowest, err := db.walkDown(ctx, db.key(walkIndex(f)), from, top, n)
		if err != nil {
			return 0, err
		}
		fits := slices.DeleteFunc(slices.Clone(ids), func(id string) bool { return !f.MatchesID(id) })
		more, err := db.matchIDs(ctx, f, fits, each)
		if err != nil || !more || len(ids) < n {
			return 0, err
		}
		if f.ByID() && !end.IsZero() && time.Now().After(end) {
			return lowest, nil
		}
		top = "(" + strconv.FormatInt(lowest, 10)
	}
}

// walkDown reads up to n ids of an index between two scores, the highest first,
// and the score of the last.
func (db *DB) walkDown(ctx context.Context, key, from, top string, n int) (ids []string, lowest int64, err error) {
	flat, err := db.readTexts(ctx, "ZREVRANGEBYSCORE", key, top, from, "WITHSCORES", "LIMIT", 0, n)
	if err != nil || len(flat) == 0 {
		return nil, 0, err
	}
	for i := 0; i < len(flat); i += 2 {
		ids = append(ids, flat[i])
	}
	score := flat[len(flat)-1]
	if lowest, err = strconv.ParseInt(score, 10, 64); err != nil {
		return nil, 0, fmt.Errorf("place %q in %s: %w", score, key, err)
	}
	return ids, lowest, nil
}

// matchIDs hands over the tasks among ids that match, in their order, until
// each returns false.
func (db *DB) matchIDs(ctx context.Context, f *persistence.TaskFilter, ids []string, each func(messages.Task, int64, *brief) bool) (more bool, err error) {
	return db.briefs(ctx, ids, func(b *brief) (bool, error) { return db.match(ctx, f, b, each) })
}

// match hands over the task of a row, if it matches.
func (db *DB) match(ctx context.Context, f *persistence.TaskFilter, b *brief, each func(messages.Task, int64, *brief) bool) (more bool, err error) {
	t, no, err := db.decode(ctx, b)
	gone := t.ID == ""
	return err == nil && (gone || !matches(f, &t) || each(t, no, b)), err
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

// openIDs reads the ids of the open tasks that fit a filter's pool and ids,
// unless they are many.
func (db *DB) openIDs(ctx context.Context, f *persistence.TaskFilter) (ids []string, few bool, err error) {
	pools := []string{f.Pool}
	if f.Pool == "" {
		if pools, err = db.OpenPools(ctx); err != nil {
			return nil, false, err
		}
	}
	for _, p := range pools {
		low, high := "-", "+"
		if f.IDBegin != "" {
			from, to := f.IDRange()
			low, high = "["+from, "("+to
		}
		for {
			list, err := db.readTexts(ctx, "ZRANGEBYLEX", db.key("open:"+p), low, high, "LIMIT", 0, rows.SearchStep)
			if err != nil {
				return nil, false, err
			}
			for _, id := range list {
				if f.MatchesID(id) {
					ids = append(ids, id)
				}
			}
			if len(ids) > openScan {
				return nil, false, nil
			}
			if len(list) < rows.SearchStep {
				break
			}
			low = "(" + list[len(list)-1]
		}
	}
	return ids, true, nil
}

// matchOpen takes open tasks in the order of lists. Only their places are kept.
func (db *DB) matchOpen(ctx context.Context, f *persistence.TaskFilter, ids []string, before int64, each func(messages.Task, int64, *brief) bool) error {
	places := make(map[string]int64, len(ids))
	for chunk := range slices.Chunk(ids, walk) {
		scores := make([]*goredis.FloatCmd, len(chunk))
		_, err := db.reader.Pipelined(ctx, func(p goredis.Pipeliner) error {
			for i, id := range chunk {
				scores[i] = p.ZScore(ctx, db.key("order"), id)
			}
			return nil
		})
		if err != nil && !errors.Is(err, goredis.Nil) {
			return unavailable(ctx, "read the order of tasks", err)
		}
		for i, id := range chunk {
			if no := int64(scores[i].Val()); no > 0 && (before == 0 || no < before) {
				places[id] = no
			}
		}
	}
	sorted := slices.SortedFunc(maps.Keys(places), func(a, b string) int { return cmp.Compare(places[b], places[a]) })
	_, err := db.matchIDs(ctx, f, sorted, each)
	return err
}
