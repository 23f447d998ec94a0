package postgres

import (
	"context"
	"strconv"

	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/persistence"
	"github.com/dash-fleet/dash/persistence/internal/rows"
)

// Tasks pages through the matching tasks, newest first: in falling order of
// their commit, which nothing changes later.
func (db *DB) Tasks(ctx context.Context, f persistence.TaskFilter, cursor string, limit int) ([]messages.Task, string, error) {
	before, err := persistence.CursorPlace(cursor)
	if err != nil {
		return nil, "", err
	}
	p := rows.NewTaskPage(page(limit))
	if f.ByID() {
		return db.search(ctx, p, &f, before)
	}
	if err := db.fill(ctx, p, filter(&f), f.Brief, 0, before); err != nil {
		return nil, "", err
	}
	tasks, next := p.Cut()
	return tasks, next, nil
}

// fill adds what matches in from <= no < before, where 0 is no bound.
func (db *DB) fill(ctx context.Context, p *rows.TaskPage, q *taskQuery, brief bool, from, before int64) error {
	q.between(from, before)
	if brief {
		return db.readBrief(ctx, p, q.from()+` ORDER BY no DESC LIMIT `+strconv.Itoa(p.Missing()), q.args...)
	}
	return db.readPage(ctx, p, q, "no", " DESC")
}

func (db *DB) search(ctx context.Context, p *rows.TaskPage, f *persistence.TaskFilter, before int64) ([]messages.Task, string, error) {
	end := f.SearchEnd()
	few, err := db.fewBegin(ctx, f)
	if err != nil {
		return nil, "", err
	}
	step := func(before int64) (from int64, err error) {
		if few || f.OnlyOpen() {
			return 0, nil
		}
		return db.stepEnd(ctx, f, before)
	}
	return p.Search(end, before, step, func(from, before int64) error {
		q := filter(f)
		if few && !f.OnlyOpen() {
			q.byBegin(f)
		}
		return db.fill(ctx, p, q, f.Brief, from, before)
	})
}

// fewBegin says whether there are few ids with the wanted begin.
func (db *DB) fewBegin(ctx context.Context, f *persistence.TaskFilter) (few bool, err error) {
	if f.IDBegin == "" {
		return false, nil
	}
	from, to := f.IDRange()
	err = db.rows(ctx, func(v [][]byte) error { few = number(v[0]) <= rows.FewIDs; return nil },
		`SELECT count(*) FROM (SELECT 1 FROM tasks WHERE id >= $1 AND id < $2 LIMIT $3) t`, from, to, rows.FewIDs+1)
	return few, err
}

// stepEnd is the place of the last candidate of the next step, 0 when that step
// takes all that are left.
func (db *DB) stepEnd(ctx context.Context, f *persistence.TaskFilter, before int64) (from int64, err error) {
	q := candidates(f)
	q.between(0, before)
	err = db.rows(ctx, func(v [][]byte) error { from = number(v[0]); return nil },
		`SELECT no`+q.from()+` ORDER BY no DESC LIMIT 1 OFFSET `+strconv.Itoa(rows.SearchStep-1), q.args...)
	return from, err
}
