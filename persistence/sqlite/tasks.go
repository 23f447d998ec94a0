package sqlite

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/messages/wire"
	"github.com/dash-fleet/dash/persistence"
	"github.com/dash-fleet/dash/persistence/internal/rows"
	"google.golang.org/protobuf/proto"
)

// taskColumns are the columns decodeTask reads, in its order.
const taskColumns = `no, id, tenant, pool, class, session, created_at, coalesce(spec, (SELECT s.spec FROM task_specs s WHERE s.no = tasks.no)),
 state, seq, claim, gateway, cancel_at, cancel_reason, finished_at, run`

const numTaskColumns = 16

// briefColumns are taskColumns with the two ends of a long spec or run, whose
// sizes and tails stand behind. SQLite reads no text for a length.
var briefColumns = strings.NewReplacer("HEAD", strconv.Itoa(rows.BriefHead), "NEXT", strconv.Itoa(rows.BriefHead+1), "TAIL", strconv.Itoa(rows.BriefTail-1)).Replace(
	`no, id, tenant, pool, class, session, created_at, coalesce(spec, (SELECT substr(s.spec, 1, HEAD) FROM task_specs s WHERE s.no = tasks.no)),
 state, seq, claim, gateway, cancel_at, cancel_reason, finished_at, CASE WHEN length(run) > HEAD THEN substr(run, 1, HEAD) ELSE run END,
 CASE WHEN spec IS NULL THEN (SELECT substr(s.spec, max(NEXT, length(s.spec) - TAIL)) FROM task_specs s WHERE s.no = tasks.no) END,
 coalesce(length(spec), (SELECT length(s.spec) FROM task_specs s WHERE s.no = tasks.no)),
 CASE WHEN length(run) > HEAD THEN substr(run, max(NEXT, length(run) - TAIL)) END, length(run)`)

const numBriefColumns = 20

// maxPage bounds one page of any list.
const maxPage = 10_000

func decodeTask(v []driver.Value) (messages.Task, error) {
	t := taskHead(v)
	if v[7] != nil {
		t.Spec = &messages.TaskSpec{}
		if err := proto.Unmarshal(blob(v[7]), t.Spec); err != nil {
			return t, fmt.Errorf("task %s: decode spec: %w", t.ID, err)
		}
	}
	if err := wire.DecodeRun(&t, blob(v[15])); err != nil {
		return t, fmt.Errorf("task %s: %w", t.ID, err)
	}
	return t, nil
}

// decodeBrief takes briefColumns. size is what was read of the task; ok is false
// if it must be read in full.
func decodeBrief(v []driver.Value) (t messages.Task, size int64, ok bool, err error) {
	t = taskHead(v)
	spec := rows.Cut{Head: blob(v[7]), Tail: blob(v[16]), Size: integer(v[17])}
	run := rows.Cut{Head: blob(v[15]), Tail: blob(v[18]), Size: integer(v[19])}
	ok, err = rows.DecodeBrief(&t, spec, run)
	return t, int64(len(spec.Head) + len(spec.Tail) + len(run.Head) + len(run.Tail)), ok, err
}

func taskHead(v []driver.Value) messages.Task {
	return messages.Task{
		ID: text(v[1]), Tenant: text(v[2]), Pool: text(v[3]), Class: messages.Class(integer(v[4])), Session: text(v[5]), CreatedAt: fromMicros(integer(v[6])),
		State: messages.TaskState(integer(v[8])), Seq: integer(v[9]), Claim: integer(v[10]), Gateway: text(v[11]),
		Cancel: messages.Cancel{RequestedAt: fromMicros(integer(v[12])), Reason: text(v[13])}, FinishedAt: fromMicros(integer(v[14])),
	}
}

// Task returns one task.
func (db *DB) Task(ctx context.Context, tenant, id string) (messages.Task, error) {
	var found []messages.Task
	err := db.readTasks(ctx, func(t messages.Task) { found = append(found, t) }, `SELECT `+taskColumns+` FROM tasks WHERE id = ?`, id)
	if err != nil {
		return messages.Task{}, err
	}
	return one(tenant, id, found)
}

func one(tenant, id string, found []messages.Task) (messages.Task, error) {
	if len(found) == 0 || (tenant != "" && found[0].Tenant != tenant) {
		return messages.Task{}, fmt.Errorf("task %s: %w", id, persistence.ErrNotFound)
	}
	return found[0], nil
}

// TaskBrief returns one task without long texts.
func (db *DB) TaskBrief(ctx context.Context, tenant, id string) (messages.Task, error) {
	p := rows.NewTaskPage(1)
	if err := db.readBrief(ctx, p, ` FROM tasks WHERE id = ?`, id); err != nil {
		return messages.Task{}, err
	}
	return one(tenant, id, p.Tasks())
}

// OpenTasks pages by id through the open tasks of a pool.
func (db *DB) OpenTasks(ctx context.Context, pool, after string, limit int) ([]messages.Task, bool, error) {
	p := rows.NewTaskPage(page(limit))
	err := db.readPage(ctx, p, ` FROM tasks INDEXED BY tasks_open WHERE open = 1 AND pool = ? AND id > ? ORDER BY id LIMIT `+strconv.Itoa(p.Missing()), pool, after)
	return p.Tasks(), p.More(), err
}

// OpenPools lists the pools with an open task by one index seek for each.
func (db *DB) OpenPools(ctx context.Context) (list []string, err error) {
	err = db.readRows(ctx, func(v []driver.Value) error {
		if v[0] != nil {
			list = append(list, text(v[0]))
		}
		return nil
	}, 1, `WITH RECURSIVE p (pool) AS (
 SELECT min(pool) FROM tasks INDEXED BY tasks_open WHERE open = 1
 UNION ALL
 SELECT (SELECT min(t.pool) FROM tasks t INDEXED BY tasks_open WHERE t.open = 1 AND t.pool > p.pool) FROM p WHERE p.pool IS NOT NULL
) SELECT pool FROM p WHERE pool IS NOT NULL`)
	return list, err
}

// MaxSeq is the greatest queue sequence number that a pool ever used.
func (db *DB) MaxSeq(ctx context.Context, pool string) (seq int64, err error) {
	err = db.readRows(ctx, func(v []driver.Value) error { seq = integer(v[0]); return nil }, 1, `SELECT seq FROM pool_seqs WHERE pool = ?`, pool)
	return seq, err
}

// Transcript pages backwards through the succeeded tasks of a session.
func (db *DB) Transcript(ctx context.Context, tenant, session, before string, limit int) ([]messages.Task, bool, error) {
	if session == "" {
		return nil, false, nil
	}
	where, args := `session <> '' AND state = 9 AND session = ? AND (? = '' OR tenant = ?)`, []any{session, tenant, tenant}
	if before != "" {
		where, args = where+` AND (ended, finished_at, no) < (SELECT b.ended, b.finished_at, b.no FROM tasks b WHERE b.id = ?)`, append(args, before)
	}
	p := rows.NewTaskPage(page(limit))
	err := db.readPage(ctx, p, ` FROM tasks INDEXED BY tasks_transcript WHERE `+where+` ORDER BY ended DESC, finished_at DESC, no DESC LIMIT `+strconv.Itoa(p.Missing()), args...)
	tasks := p.Tasks()
	slices.Reverse(tasks)
	return tasks, p.More(), err
}

// readPage adds whole tasks to a page until it is full. A row is read when the
// one before fitted: nothing else of a long page is in memory.
func (db *DB) readPage(ctx context.Context, p *rows.TaskPage, from string, args ...any) error {
	err := db.readRows(ctx, func(v []driver.Value) error {
		t, err := decodeTask(v)
		if err == nil && !p.Add(t, integer(v[0]), int64(len(blob(v[7]))+len(blob(v[15])))) {
			err = errEnough
		}
		return err
	}, numTaskColumns, `SELECT `+taskColumns+from, args...)
	if errors.Is(err, errEnough) {
		err = nil
	}
	return err
}

// readBrief adds tasks without their long texts to a page until it is full.
func (db *DB) readBrief(ctx context.Context, p *rows.TaskPage, from string, args ...any) error {
	var odd []string // rows in which more is long than the text
	err := db.readRows(ctx, func(v []driver.Value) error {
		t, size, ok, err := decodeBrief(v)
		if err == nil && !ok {
			odd = append(odd, t.ID)
		}
		if err == nil && !p.Add(t, integer(v[0]), size) {
			err = errEnough
		}
		return err
	}, numBriefColumns, `SELECT `+briefColumns+from, args...)
	if err != nil && !errors.Is(err, errEnough) {
		return err
	}
	return p.Reread(odd, func(id string) (messages.Task, error) { return db.Task(ctx, "", id) })
}

func (db *DB) readTasks(ctx context.Context, each func(t messages.Task), query string, args ...any) error {
	return db.readRows(ctx, func(v []driver.Value) error {
		t, err := decodeTask(v)
		if err != nil {
			return err
		}
		each(t)
		return nil
	}, numTaskColumns, query, args...)
}

// readRows runs a query on a read connection.
func (db *DB) readRows(ctx context.Context, read rowReader, columns int, query string, args ...any) error {
	return readRows(ctx, db.read, read, columns, query, args...)
}

// list decodes every row of a query.
func list[T any](ctx context.Context, db *DB, decode func(v []driver.Value) (T, error), columns int, query string, args ...any) (all []T, err error) {
	err = db.readRows(ctx, func(v []driver.Value) error {
		row, err := decode(v)
		all = append(all, row)
		return err
	}, columns, query, args...)
	return all, err
}

// queryer is a pool of connections or a transaction.
type queryer interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
}

// readRows calls read for every row of a query.
func readRows(ctx context.Context, q queryer, read rowReader, columns int, query string, args ...any) (err error) {
	rows, err := q.QueryContext(ctx, query, args...)
	if err != nil {
		return readError(ctx, err)
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	dest, ptrs := make([]driver.Value, columns), make([]any, columns)
	for i := range dest {
		ptrs[i] = (*any)(&dest[i])
	}
	for rows.Next() {
		if err := rows.Scan(ptrs...); err != nil {
			return fmt.Errorf("read: %w", err)
		}
		if err := read(dest); err != nil {
			return err
		}
	}
	return readError(ctx, rows.Err())
}

func readError(ctx context.Context, err error) error {
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.Is(err, sql.ErrConnDone) || strings.Contains(err.Error(), "database is closed"):
		return errClosed
	}
	return unavailable("read", err)
}

func page(limit int) int {
	if limit <= 0 || limit > maxPage {
		return maxPage
	}
	return limit
}
