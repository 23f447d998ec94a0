package postgres

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

// errLost: the batch was sent and its answer was lost.
var errLost = errors.New("connection lost while the batch was under way")

// What commit_batch_v1 answers in status.
const (
	statusDone     = 0
	statusFenced   = 1
	statusMismatch = 2
)

const (
	statement = "commit_batch_v1"
	numParams = 24
	commitSQL = `SELECT status, first, bad, held, tasks, generations
 FROM commit_batch_v1($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22, $23, $24)`
)

var binaryFormat = []int16{1}

// commitParams fix the plans: rows are visited through the indexes, in the
// order in which they were sent, whatever the statistics of the moment say.
var commitParams = map[string]string{
	"enable_hashjoin": "off", "enable_mergejoin": "off", "enable_seqscan": "off", "plan_cache_mode": "force_generic_plan", "jit": "off",
}

// types are the ids of the composite types, which differ between databases.
type types struct{ fence, insert, update, cancel, label, session, status, seq uint32 }

const typesKey = "dash_types"

// prepareCommit readies a connection for batches.
func prepareCommit(ctx context.Context, conn *pgx.Conn) error {
	var t types
	err := conn.QueryRow(ctx, `SELECT 'commit_fence_v1'::regtype::oid, 'commit_insert_v1'::regtype::oid, 'commit_update_v1'::regtype::oid, 'commit_cancel_v1'::regtype::oid,
 'commit_label_v1'::regtype::oid, 'commit_session_v1'::regtype::oid, 'commit_status_v1'::regtype::oid, 'commit_seq_v1'::regtype::oid`).
		Scan(&t.fence, &t.insert, &t.update, &t.cancel, &t.label, &t.session, &t.status, &t.seq)
	if err != nil {
		return fmt.Errorf("read types: %w", err)
	}
	conn.PgConn().CustomData()[typesKey] = t
	if _, err := conn.PgConn().Prepare(ctx, statement, commitSQL, nil); err != nil {
		return fmt.Errorf("prepare: %w", err)
	}
	return nil
}

// answer is what the server said to a batch.
type answer struct {
	status      int
	first       int64 // seq of the newest event before this batch
	bad         []int // groups left out
	held        []int // fences that hold, by place, from 1
	tasks       []taskRow
	generations map[sessionKey]int64
}

// send makes the one round trip of a batch. An error that is errLost leaves the
// outcome open; after any other nothing was kept.
func (db *DB) send(ctx context.Context, s *slot, r *request) (*answer, error) {
	ctx, cancel := context.WithTimeout(ctx, db.cfg.roundTrip())
	defer cancel()
	conn, err := db.commits.Acquire(ctx)
	if err != nil {
		return nil, err
	}
	defer conn.Release()
	if db.unfenced {
		if held, err := db.heldFences(ctx, conn, r); err != nil || len(held) < len(r.fences) {
			return &answer{status: statusFenced, held: held}, err
		}
	}
	s.next++
	res := conn.Conn().PgConn().ExecPrepared(ctx, statement, db.params(s, r, conn), binaryFormat, binaryFormat).Read()
	switch {
	case res.Err == nil && len(res.Rows) == 1 && len(res.Rows[0]) == 6:
		return readAnswer(res.Rows[0])
	case res.Err == nil:
		return nil, fmt.Errorf("%w: %w", errLost, errShort)
	case refused(res.Err):
		return nil, res.Err
	case pgconn.SafeToRetry(res.Err):
		return nil, fmt.Errorf("%w: %w", errRetry, res.Err)
	}
	return nil, fmt.Errorf("%w: %w", errLost, res.Err)
}

func (db *DB) params(s *slot, r *request, conn *pgxpool.Conn) [][]byte {
	t := conn.Conn().PgConn().CustomData()[typesKey].(types)
	p := make([][]byte, numParams)
	p[0], p[1], p[2], p[3] = s.id[:], int8Param(s.prev), int8Param(s.next), []byte(db.eventsChannel())
	if p[4] = r.fenceRows.param(t.fence); db.unfenced {
		p[4] = nil
	}
	p[5], p[6], p[7], p[8] = r.inserts.param(t.insert), r.updates.param(t.update), r.cancels.param(t.cancel), r.labels.param(t.label)
	p[9], p[10], p[11] = r.sessions.param(t.session), r.statuses.param(t.status), r.seqs.param(t.seq)
	p[12] = binary.BigEndian.AppendUint32(nil, uint32(r.ops))
	if r.made > 0 {
		p[13], p[14] = int8Param(r.minCreated), int8Param(r.maxCreated)
	}
	if r.eventCounts.n > 0 {
		p[15], p[16], p[17], p[18] = r.eventGroups.param(oidInt4), r.eventCounts.param(oidInt4), r.eventSizes.param(oidInt4), r.events
		p[19], p[20] = r.partCounts.param(oidInt4), r.partSizes.param(oidInt4)
	}
	p[21], p[22] = r.hard.param(oidInt4), r.want.param(oidInt4)
	p[23] = []byte{0}
	if r.check {
		p[23][0] = 1
	}
	return p
}

func int8Param(v int64) []byte { return binary.BigEndian.AppendUint64(nil, uint64(v)) }

// heldFences checks the fences before the batch instead of in it: the mistake that
// the stress test must be able to find.
func (db *DB) heldFences(ctx context.Context, conn *pgxpool.Conn, r *request) (held []int, err error) {
	for i, f := range r.fences {
		var n int
		err := conn.QueryRow(ctx, `SELECT count(*) FROM ownership WHERE scope = $1 AND key = $2 AND owner = $3 AND epoch = $4`,
			int16(f.Scope), f.Key, f.Owner, f.Epoch).Scan(&n)
		if err != nil {
			return nil, err
		}
		if n > 0 {
			held = append(held, i+1)
		}
	}
	return held, nil
}

// readAnswer decodes the row. An answer that cannot be read is as good as lost.
func readAnswer(row [][]byte) (*answer, error) {
	a := &answer{status: int(number(row[0])), first: number(row[1])}
	var err, err2 error
	a.bad, err = numbers(row[2])
	a.held, err2 = numbers(row[3])
	if err = errors.Join(err, err2); err == nil {
		if a.tasks, err = readTaskRows(row[4]); err == nil {
			a.generations, err = readGenerations(row[5])
		}
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errLost, err)
	}
	return a, nil
}

func readTaskRows(p []byte) ([]taskRow, error) {
	r := reader{b: p}
	list := make([]taskRow, r.elements())
	for i := range list {
		row := reader{b: r.value()}
		row.take(4)
		var err error
		if list[i], err = readTaskRow(&row); err != nil {
			return nil, err
		}
	}
	return list, r.err
}

// readTaskRow reads a commit_task_v1.
func readTaskRow(r *reader) (taskRow, error) {
	var v [numTaskColumns + 2][]byte
	for i := range v {
		v[i] = r.field()
	}
	if r.err != nil {
		return taskRow{}, r.err
	}
	return decodeTaskRow(v[:])
}

// decodeTaskRow takes the task columns, the idempotency key and the hash.
func decodeTaskRow(v [][]byte) (taskRow, error) {
	t, err := decodeTask(v)
	return taskRow{task: t, key: bytes.Clone(v[numTaskColumns]), hash: bytes.Clone(v[numTaskColumns+1])}, err
}

func readGenerations(p []byte) (map[sessionKey]int64, error) {
	r := reader{b: p}
	n := r.elements()
	list := make(map[sessionKey]int64, n)
	for range n {
		row := reader{b: r.value()}
		row.take(4)
		id := row.text()
		key := sessionKey{row.text(), id}
		list[key] = row.i8()
		if row.err != nil {
			return nil, row.err
		}
	}
	return list, r.err
}

// seqs remembers the greatest queue number of each pool that is stored for
// certain, so that a batch sends only what is greater.
type seqs struct {
	mu    sync.Mutex
	pools map[string]int64
}

// maxPools bounds the memory of seqs; beyond it a number is sent again.
const maxPools = 10_000

func (s *seqs) stored(pool string) int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	if seq, ok := s.pools[pool]; ok {
		return seq
	}
	return -1
}

func (s *seqs) raise(pool string, seq int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if old, ok := s.pools[pool]; ok && old >= seq {
		return
	} else if !ok && len(s.pools) >= maxPools {
		clear(s.pools)
	}
	if s.pools == nil {
		s.pools = map[string]int64{}
	}
	s.pools[pool] = seq
}
