package postgres

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

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
	plan  *plan
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
