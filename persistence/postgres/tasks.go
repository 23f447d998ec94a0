package postgres

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/messages/wire"
	"github.com/dash-fleet/dash/persistence"
	"github.com/dash-fleet/dash/persistence/internal/rows"
	"google.golang.org/protobuf/proto"
)

// taskColumns are the columns decodeTask reads, in its order.
const taskColumns = `no, id, tenant, pool, class, session, created_at, spec, state, seq, claim, gateway, cancel_at, cancel_reason, finished_at, run`

const numTaskColumns = 16

// briefColumns are taskColumns with the two ends of a long spec or run, whose
// sizes and tails stand behind.
var briefColumns = strings.NewReplacer("HEAD", strconv.Itoa(rows.BriefHead), "NEXT", strconv.Itoa(rows.BriefHead+1), "TAIL", strconv.Itoa(rows.BriefTail-1)).Replace(
	`no, id, tenant, pool, class, session, created_at, substring(spec FROM 1 FOR HEAD), state, seq, claim, gateway, cancel_at, cancel_reason, finished_at,
 substring(run FROM 1 FOR HEAD),
 CASE WHEN octet_length(spec) > HEAD THEN substring(spec FROM greatest(NEXT, octet_length(spec) - TAIL)) END, coalesce(octet_length(spec), 0)::bigint,
 CASE WHEN octet_length(run) > HEAD THEN substring(run FROM greatest(NEXT, octet_length(run) - TAIL)) END, octet_length(run)::bigint`)

// maxPage bounds one page of any list.
const maxPage = 10_000

// decodeTask takes the columns in binary form; it keeps none of the bytes.
func decodeTask(v [][]byte) (messages.Task, error) {
	t := taskHead(v)
	if v[7] != nil {
		t.Spec = &messages.TaskSpec{}
		if err := proto.Unmarshal(v[7], t.Spec); err != nil {
			return t, fmt.Errorf("task %s: decode spec: %w", t.ID, err)
		}
	}
	if err := wire.DecodeRun(&t, bytes.Clone(v[15])); err != nil {
		return t, fmt.Errorf("task %s: %w", t.ID, err)
	}
	return t, nil
}

// decodeBrief takes briefColumns. size is what was read of the task; ok is false
// if it must be read in full.
func decodeBrief(v [][]byte) (t messages.Task, size int64, ok bool, err error) {
	t = taskHead(v)
	spec := rows.Cut{Head: v[7], Tail: v[16], Size: number(v[17])}
	run := rows.Cut{Head: v[15], Tail: v[18], Size: number(v[19])}
	ok, err = rows.DecodeBrief(&t, spec, run)
	return t, int64(len(v[7]) + len(v[15]) + len(v[16]) + len(v[18])), ok, err
}

func taskHead(v [][]byte) messages.Task {
	return messages.Task{
		ID: string(v[1]), Tenant: string(v[2]), Pool: string(v[3]), Class: messages.Class(number(v[4])), Session: string(v[5]), CreatedAt: fromMicros(number(v[6])),
		State: messages.TaskState(number(v[8])), Seq: number(v[9]), Claim: number(v[10]), Gateway: string(v[11]),
		Cancel: messages.Cancel{RequestedAt: fromMicros(number(v[12])), Reason: string(v[13])}, FinishedAt: fromMicros(number(v[14])),
	}
}

// Task returns one task.
func (db *DB) Task(ctx context.Context, tenant, id string) (messages.Task, error) {
	found, err := db.readTasks(ctx, `SELECT `+taskColumns+` FROM tasks WHERE id = $1`, id)
	if err != nil {
		return messages.Task{}, err
	}
	return theOne(tenant, id, found)
}

func theOne(tenant, id string, found []messages.Task) (messages.Task, error) {
	if len(found) == 0 || (tenant != "" && found[0].Tenant != tenant) {
		return messages.Task{}, fmt.Errorf("task %s: %w", id, persistence.ErrNotFound)
	}
	return found[0], nil
}

// TaskBrief returns one task without long texts.
func (db *DB) TaskBrief(ctx context.Context, tenant, id string) (messages.Task, error) {
	p := rows.NewTaskPage(1)
	if err := db.readBrief(ctx, p, ` FROM tasks WHERE id = $1`, id); err != nil {
		return messages.Task{}, err
	}
	return theOne(tenant, id, p.Tasks())
}

// OpenTasks pages by id through the open tasks of a pool.
func (db *DB) OpenTasks(ctx context.Context, pool, after string, limit int) ([]messages.Task, bool, error) {
	q := &taskQuery{}
	q.where("open AND pool = $", pool)
	q.where("id > $", after)
	p := rows.NewTaskPage(page(limit))
	err := db.readPage(ctx, p, q, "id", "")
	return p.Tasks(), p.More(), err
}

// OpenPools lists the pools with an open task by one index seek for each.
func (db *DB) OpenPools(ctx context.Context) (list []string, err error) {
	err = db.rows(ctx, func(v [][]byte) error { list = append(list, string(v[0])); return nil }, `WITH RECURSIVE p (pool) AS (
 SELECT min(pool) FROM tasks WHERE open
 UNION ALL
 SELECT (SELECT min(t.pool) FROM tasks t WHERE t.open AND t.pool > p.pool) FROM p WHERE p.pool IS NOT NULL
) SELECT pool FROM p WHERE pool IS NOT NULL`)
	return list, err
}

// MaxSeq is the greatest queue sequence number that a pool ever used.
func (db *DB) MaxSeq(ctx context.Context, pool string) (seq int64, err error) {
	err = db.rows(ctx, func(v [][]byte) error { seq = number(v[0]); return nil }, `SELECT seq FROM pool_seqs WHERE pool = $1`, pool)
	return seq, err
}

// Transcript pages backwards through the succeeded tasks of a session.
func (db *DB) Transcript(ctx context.Context, tenant, session, before string, limit int) ([]messages.Task, bool, error) {
	if session == "" {
		return nil, false, nil
	}
	q := &taskQuery{}
	q.where("session <> '' AND ended IS NOT NULL AND session = $", session)
	if tenant != "" {
		q.where("tenant = $", tenant)
	}
	if before != "" {
		q.where("ended < (SELECT b.ended FROM tasks b WHERE b.id = $)", before)
	}
	p := rows.NewTaskPage(page(limit))
	err := db.readPage(ctx, p, q, "ended", " DESC")
	tasks := p.Tasks()
	slices.Reverse(tasks)
	return tasks, p.More(), err
}

// readPage adds whole tasks to a page, in the order of a column, until it is full. The server sends what it was asked for to its end, so it is asked for no
// more than fits, and the one behind. It need not read a value for its length.
func (db *DB) readPage(ctx context.Context, p *rows.TaskPage, q *taskQuery, column, way string) error {
	return db.rows(ctx, func(v [][]byte) error {
		if p.More() {
			return nil
		}
		t, err := decodeTask(v)
		p.Add(t, number(v[0]), int64(len(v[7])+len(v[15])))
		return err
	}, `WITH few AS (SELECT no, `+column+` AS place, coalesce(octet_length(spec), 0) + octet_length(run) AS size`+q.from()+` ORDER BY `+column+way+` LIMIT `+strconv.Itoa(p.Missing())+`),
 fit AS (SELECT no, sum(size) OVER (ORDER BY place`+way+` ROWS UNBOUNDED PRECEDING) - size AS before FROM few)
 SELECT `+taskColumns+` FROM tasks WHERE no = ANY (ARRAY (SELECT no FROM fit WHERE before <= `+strconv.FormatInt(p.Left(), 10)+`)) ORDER BY `+column+way, q.args...)
}

// readBrief adds tasks without their long texts to a page until it is full.
func (db *DB) readBrief(ctx context.Context, p *rows.TaskPage, from string, args ...any) error {
	var odd []string // rows in which more is long than the text
	err := db.rows(ctx, func(v [][]byte) error {
		if p.More() {
			return nil
		}
		t, size, ok, err := decodeBrief(v)
		if !ok {
			odd = append(odd, t.ID)
		}
		p.Add(t, number(v[0]), size)
		return err
	}, `SELECT `+briefColumns+from, args...)
	if err != nil {
		return err
	}
	return p.Reread(odd, func(id string) (messages.Task, error) { return db.Task(ctx, "", id) })
}

func (db *DB) readTasks(ctx context.Context, query string, args ...any) (tasks []messages.Task, err error) {
	err = db.rows(ctx, func(v [][]byte) error {
		t, err := decodeTask(v)
		tasks = append(tasks, t)
		return err
	}, query, args...)
	return tasks, err
}

// rows runs a query on a read connection and hands over the columns of each row
// in binary form; they are valid only during the call.
func (db *DB) rows(ctx context.Context, read func(v [][]byte) error, query string, args ...any) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	rows, err := db.pool.Query(ctx, query, args...)
	if err != nil {
		return readError(ctx, "read", err)
	}
	defer rows.Close()
	for rows.Next() {
		if err := read(rows.RawValues()); err != nil {
			return err
		}
	}
	return readError(ctx, "read", rows.Err())
}

func page(limit int) int {
	if limit <= 0 || limit > maxPage {
		return maxPage
	}
	return limit
}

// micros is how times are stored: microseconds since 1970, 0 for "not set".
func micros(t time.Time) int64 { return messages.Micros(t) }

func fromMicros(n int64) time.Time { return messages.FromMicros(n) }
