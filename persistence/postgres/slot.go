package postgres

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/persistence"
	"github.com/google/uuid"
)

// slot is a writer: a row of the table writers that every batch of the slot
// takes from prev to next. Only one batch is under way in a slot.
type slot struct {
	id   uuid.UUID
	prev int64 // the last batch that is known to be kept
	next int64 // the last number given out
	lost *lost // a batch whose fate is not known
}

// lost is a batch whose answer was lost.
type lost struct {
	ops   []persistence.Op
	game  *game
	batch int64
	cause error
}

// is says whether ops is the very slice of the lost batch.
func (l *lost) is(ops []persistence.Op) bool {
	return len(ops) > 0 && len(ops) == len(l.ops) && &ops[0] == &l.ops[0]
}

// slots hands out the slots of a DB. open and settled are the batches whose
// callers were told that their outcome is unknown.
type slots struct {
	tokens  chan struct{}
	mu      sync.Mutex
	free    []*slot
	open    []*lost
	settled []settled // found kept by the Commit of another batch
}

type settled struct {
	lost     *lost
	outcomes []persistence.Outcome
}

const (
	// maxSettled bounds the outcomes that wait for their caller to ask again.
	maxSettled = 64
	// slotPoll is the pause while another Commit clears up the caller's batch.
	slotPoll = 5 * time.Millisecond
)

func newSlots(n int) *slots {
	s := &slots{tokens: make(chan struct{}, n)}
	for range n {
		s.free = append(s.free, &slot{id: uuid.New()})
		s.tokens <- struct{}{}
	}
	return s
}

// acquire waits for a slot. One with a lost batch comes first, and of these the
// one that lost this very batch: what was lost is cleared up before anything
// newer is written. If that was done meanwhile, its outcomes come instead.
func (s *slots) acquire(ctx context.Context, ops []persistence.Op) (*slot, []persistence.Outcome, error) {
	for {
		if err := ctx.Err(); err != nil {
			return nil, nil, s.unknown(ops, err)
		}
		select {
		case <-s.tokens:
		case <-ctx.Done():
			return nil, nil, s.unknown(ops, ctx.Err())
		}
		f, out := s.take(ops)
		if f != nil {
			return f, nil, nil
		}
		s.tokens <- struct{}{}
		if out != nil {
			return nil, out, nil
		}
		t := time.NewTimer(slotPoll)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
		}
	}
}

// take picks a slot; nil without outcomes: another Commit has the slot that
// lost this batch.
func (s *slots) take(ops []persistence.Op) (*slot, []persistence.Outcome) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, d := range s.settled {
		if d.lost.is(ops) {
			s.settled = slices.Delete(s.settled, i, i+1)
			return nil, d.outcomes
		}
	}
	mine := slices.IndexFunc(s.free, func(f *slot) bool { return f.lost != nil && f.lost.is(ops) })
	if mine < 0 && slices.ContainsFunc(s.open, func(l *lost) bool { return l.is(ops) }) {
		return nil, nil
	}
	if mine < 0 {
		mine = max(slices.IndexFunc(s.free, func(f *slot) bool { return f.lost != nil }), 0)
	}
	f := s.free[mine]
	s.free = slices.Delete(s.free, mine, mine+1)
	return f, nil
}

// unknown is err, and ErrUnknown while the outcome of ops is.
func (s *slots) unknown(ops []persistence.Op, err error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if slices.ContainsFunc(s.open, func(l *lost) bool { return l.is(ops) }) {
		return fmt.Errorf("%w: %w", persistence.ErrUnknown, err)
	}
	return err
}

// lose notes that nobody knows the fate of a batch, settle that it is known:
// outcomes nil: not kept. own says that its own caller waits for them.
func (s *slots) lose(l *lost) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.open = append(s.open, l)
}

func (s *slots) settle(l *lost, outcomes []persistence.Outcome, own bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.open = slices.DeleteFunc(s.open, func(o *lost) bool { return o == l })
	if own || outcomes == nil || len(l.ops) == 0 {
		return
	}
	if len(s.settled) >= maxSettled {
		s.settled = slices.Delete(s.settled, 0, 1)
	}
	s.settled = append(s.settled, settled{l, outcomes})
}

func (s *slots) release(f *slot) {
	s.mu.Lock()
	s.free = append(s.free, f)
	s.mu.Unlock()
	s.tokens <- struct{}{}
}

// register makes the slot's row, or takes over the number that it has: after a
// sweep, or on a server that has lost its newest transactions.
func (db *DB) register(ctx context.Context, s *slot) error {
	ctx, cancel := context.WithTimeout(ctx, db.cfg.roundTrip())
	defer cancel()
	err := db.commits.QueryRow(ctx, `INSERT INTO writers (id, batch, seq, at) VALUES ($1, $2, 0, now())
 ON CONFLICT (id) DO UPDATE SET at = now() RETURNING batch`, s.id, s.next).Scan(&s.prev)
	if err != nil {
		return unavailable("register writer", err)
	}
	s.next = max(s.next, s.prev)
	return nil
}

// resolve finds out whether the slot's lost batch was kept, and returns its
// outcomes if so, nil if not. It keeps trying until ctx ends. own says that the
// batch is the caller's; else its outcomes are kept for who asks again.
func (db *DB) resolve(ctx context.Context, s *slot, own bool) ([]persistence.Outcome, error) {
	wait := 20 * time.Millisecond
	for {
		out, kept, err := db.readBack(ctx, s)
		if err == nil {
			found := "not_kept"
			if kept {
				found = "kept"
				s.prev = s.lost.batch
			}
			db.metrics.unknown.WithLabelValues(found).Inc()
			db.cfg.Logger.Warn("the answer to a batch was lost; its outcome was read back", slog.String("found", found), slog.Any("err", s.lost.cause))
			db.slots.settle(s.lost, out, own)
			s.lost = nil
			return out, nil
		}
		t := time.NewTimer(wait)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return nil, fmt.Errorf("%w; reading back: %w", s.lost.cause, err)
		}
		wait = min(2*wait, time.Second)
	}
}

// readBack moves the slot's row on, unless the lost batch did so. A batch that
// is still under way holds the row, so this waits for its end; one that the
// server has not begun yet finds the row moved on and fails as a whole. So the
// answer is final.
func (db *DB) readBack(ctx context.Context, s *slot) (out []persistence.Outcome, kept bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, db.cfg.roundTrip())
	defer cancel()
	conn, err := db.commits.Acquire(ctx)
	if err != nil {
		return nil, false, err
	}
	defer conn.Release()
	fence := s.lost.batch + 1
	if _, err := conn.Exec(ctx, `UPDATE writers SET batch = $3, at = now() WHERE id = $1 AND batch = $2`, s.id, s.prev, fence); err != nil {
		return nil, false, err
	}
	var batch int64
	a := &answer{}
	var bad []int32
	err = conn.QueryRow(ctx, `WITH made AS (INSERT INTO writers (id, batch, seq, at) VALUES ($1, $2, 0, now()) ON CONFLICT (id) DO NOTHING RETURNING batch, seq, bad)
 SELECT batch, seq, bad FROM made UNION ALL SELECT batch, seq, bad FROM writers WHERE id = $1`, s.id, fence).Scan(&batch, &a.first, &bad)
	if err != nil {
		return nil, false, err
	}
	if batch != s.lost.batch {
		s.prev, s.next = batch, max(s.next, batch)
		return nil, false, nil
	}
	for _, g := range bad {
		a.bad = append(a.bad, int(g))
	}
	out, err = db.recall(ctx, s.lost.game, a)
	return out, true, err
}

// recall makes the outcomes of a batch that was kept, with the rows as they are
// now where an outcome carries one.
func (db *DB) recall(ctx context.Context, g *game, a *answer) ([]persistence.Outcome, error) {
	bad := groupSet(a.bad)
	shown := g.shown(bad)
	if shown == nil {
		return db.finish(g, a), nil
	}
	if err := db.lookUp(ctx, g, shown, a); err != nil {
		return nil, err
	}
	again := g.replay(shown, a)
	out := db.number(g, a, bad)
	for i := range out {
		switch {
		case !shown[i]:
		case bad[g.group(i)]:
			if out[i] = again.outcomes[i]; out[i].Status == persistence.OK && g.ops[i].Cancel == nil {
				out[i].Status = persistence.Conflict // it fits only since
			}
		case g.want[i]:
			out[i].Current = a.find(taskID(&g.ops[i]))
		}
	}
	return out, nil
}

func taskID(op *persistence.Op) string {
	switch {
	case op.Insert != nil:
		return op.Insert.Task.ID
	case op.Update != nil:
		return op.Update.Task.ID
	case op.Cancel != nil:
		return op.Cancel.Task
	}
	return ""
}

func (a *answer) find(id string) *messages.Task {
	for i := range a.tasks {
		if a.tasks[i].task.ID == id {
			return &a.tasks[i].task
		}
	}
	return nil
}

// lookUp reads the rows that the shown ops touch.
func (db *DB) lookUp(ctx context.Context, g *game, shown []bool, a *answer) error {
	var ids, tenants, sessionTenants, sessions []string
	var keys [][]byte
	for i := range g.ops {
		op := &g.ops[i]
		if !shown[i] {
			continue
		}
		ids = append(ids, taskID(op))
		if op.Insert != nil && op.Insert.IdemKey != "" {
			tenants, keys = append(tenants, op.Insert.Task.Tenant), append(keys, []byte(op.Insert.IdemKey))
		}
		if op.Session != nil {
			sessionTenants, sessions = append(sessionTenants, op.Session.Session.Tenant), append(sessions, op.Session.Session.ID)
		}
	}
	err := db.rows(ctx, func(v [][]byte) error {
		b, err := decodeBase(v)
		a.tasks = append(a.tasks, b)
		return err
	}, `SELECT `+taskColumns+`, idem_key, idem_hash FROM tasks WHERE id = ANY ($1)
 UNION SELECT `+taskColumns+`, idem_key, idem_hash FROM tasks t JOIN unnest($2::text[], $3::bytea[]) k (tenant0, key0) ON t.tenant = k.tenant0 AND t.idem_key = k.key0`,
		ids, tenants, keys)
	if err != nil {
		return err
	}
	a.generations = map[sessionKey]int64{}
	return db.rows(ctx, func(v [][]byte) error {
		a.generations[sessionKey{string(v[0]), string(v[1])}] = number(v[2])
		return nil
	}, `SELECT s.tenant, s.id, s.generation FROM agent_sessions s JOIN unnest($1::text[], $2::text[]) k (tenant0, id0) ON s.id = k.id0 AND s.tenant = k.tenant0`,
		sessionTenants, sessions)
}
