package postgres

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/persistence"
)

const (
	// maxTries bounds how often one batch is sent: after dead-locks, lost
	// connections and rows that changed between two tries.
	maxTries = 12
	// waryBatches is how many batches look before they write after one that did
	// not fit: looking costs a little, not having looked costs a second try.
	waryBatches = 32
)

// Commit makes a batch durable. While everything fits, which is the rule, that
// is one round trip; a fence that does not hold, or a group of several ops that
// does not fit, costs one more. Nothing is locked between two of them.
//
// After persistence.ErrUnknown, a Commit of the same slice (same backing array,
// unchanged) goes on with that batch: it returns the outcomes if the batch
// turns out to be kept, and commits it if not.
func (db *DB) Commit(ctx context.Context, ops []persistence.Op) ([]persistence.Outcome, error) {
	start := time.Now()
	if err := persistence.CheckOps(ops); err != nil {
		return nil, err
	}
	s, out, err := db.slots.acquire(ctx, ops)
	if err != nil || out != nil {
		return out, err
	}
	defer db.slots.release(s)
	if s.lost == nil {
		if err := db.refusesWrites(); err != nil {
			return nil, fmt.Errorf("commit: %w", err)
		}
	}
	outcomes, err := db.commitOn(ctx, s, ops)
	if err != nil {
		db.metrics.Failed.Inc()
		db.noteFull(err)
		return nil, fmt.Errorf("commit: %w", err)
	}
	db.metrics.Committed(start, len(ops))
	return outcomes, nil
}

func (db *DB) commitOn(ctx context.Context, s *slot, ops []persistence.Op) ([]persistence.Outcome, error) {
	if s.lost != nil {
		same := s.lost.is(ops)
		out, err := db.resolve(ctx, s, same)
		switch {
		case err != nil && same:
			return nil, fmt.Errorf("%w: %w", persistence.ErrUnknown, err)
		case err != nil:
			return nil, fmt.Errorf("%w: the outcome of an earlier batch cannot be read back: %w", persistence.ErrUnavailable, err)
		case same && out != nil:
			return out, nil
		}
	}
	b := &attempt{ops: ops, skip: make([]bool, len(ops))}
	for try := 0; ; {
		out, err := db.try(ctx, s, b)
		if err == nil && out != nil {
			return out, nil
		}
		if err == nil { // played again with what the server said
			db.metrics.retries.Inc()
			if b.fenced > 0 { // each of these settles an op
				b.fenced = 0
				continue
			}
			err = errChanged
		}
		if try++; try >= maxTries || !errors.Is(err, errRetry) {
			return nil, commitError(ctx, err)
		}
		if !errors.Is(err, errChanged) {
			db.metrics.retries.Inc()
			if err := pause(ctx, try); err != nil {
				return nil, commitError(ctx, err)
			}
		}
	}
}

// commitError is the last word on a batch of which nothing was kept, or of
// which that is not known.
func commitError(ctx context.Context, err error) error {
	if errors.Is(err, persistence.ErrUnknown) {
		return err
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if neverTaken(err) {
		return &messages.Error{Code: messages.CodeInvalid, Message: "the server can never take this batch: " + err.Error(), Err: err}
	}
	return unavailable("batch", err)
}

var (
	// errRetry: nothing was kept and the same again may well succeed.
	errRetry   = errors.New("try again")
	errChanged = fmt.Errorf("%w: the rows change faster than they can be read", errRetry)
)

// pause waits before another try: a random time up to 2, 4, … 256 ms.
func pause(ctx context.Context, try int) error {
	t := time.NewTimer(time.Duration(rand.Int64N(int64(time.Millisecond) << min(try, 8))))
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// attempt is a batch over its tries.
type attempt struct {
	ops    []persistence.Op
	skip   []bool // refused by a fence
	known  *knownRows
	fenced int // ops that the last try refused by a fence
}

// try plays and sends the batch once. Without outcomes and without error the
// server has said something new and it is to be played again.
func (db *DB) try(ctx context.Context, s *slot, b *attempt) ([]persistence.Outcome, error) {
	p := play(b.ops, b.skip, b.known)
	r, err := newRequest(p, db.seqs.stored)
	if err != nil {
		return nil, err
	}
	if db.wary.Load() > 0 {
		db.wary.Add(-1)
		r.check = true
	}
	a, err := db.send(ctx, s, r)
	if err == nil && a.status == statusFenced {
		b.fence(r.fences, a.held)
	}
	requestPool.Put(r)
	switch {
	case errors.Is(err, errLost):
		s.lost = &lost{ops: b.ops, plan: p, batch: s.next, cause: err}
		db.slots.lose(s.lost)
		out, err := db.resolve(ctx, s, true)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", persistence.ErrUnknown, err)
		}
		if out == nil {
			err = fmt.Errorf("%w: the connection was cut before the batch was kept", errRetry)
		}
		return out, err
	case err != nil:
		return nil, db.refusal(ctx, s, err)
	case a.status == statusMismatch:
		db.wary.Store(waryBatches)
		b.learn(p, a)
		return nil, nil
	case a.status == statusFenced:
		return nil, nil
	}
	if len(a.bad) > 0 {
		db.wary.Store(waryBatches)
	}
	s.prev = s.next
	return db.finish(p, a), nil
}

// refusal sorts the errors after which nothing was kept.
func (db *DB) refusal(ctx context.Context, s *slot, err error) error {
	switch sqlState(err) {
	case codeMismatch, codeUnique:
		db.wary.Store(waryBatches)
	case codeSerialization, codeDeadlock:
	case codeStale:
		if err := db.register(ctx, s); err != nil {
			return err
		}
	default:
		return err
	}
	return fmt.Errorf("%w: %w", errRetry, err)
}

// fence refuses the ops of which a fence does not hold.
func (b *attempt) fence(sent []messages.Fence, held []int) {
	holds := make(map[messages.Fence]bool, len(held))
	for _, i := range held {
		if i >= 1 && i <= len(sent) {
			holds[sent[i-1]] = true
		}
	}
	for i := range b.ops {
		for _, f := range b.ops[i].Fences {
			if !b.skip[i] && !holds[f] {
				b.skip[i] = true
				b.fenced++
			}
		}
	}
}

// learn takes over the rows of the groups that did not fit.
func (b *attempt) learn(p *plan, a *answer) {
	if b.known == nil {
		b.known = newKnownRows(make([]bool, len(b.ops)))
	}
	bad := groupSet(a.bad)
	for i := range b.ops {
		if !b.skip[i] && bad[p.group(i)] {
			b.known.ops[i] = true
			b.known.forget(&b.ops[i])
		}
	}
	b.known.add(a)
}

// forget drops what is known of the rows of an op; newer rows follow.
func (k *knownRows) forget(op *persistence.Op) {
	switch {
	case op.Insert != nil:
		delete(k.tasks, op.Insert.Task.ID)
		delete(k.keys, idemKey{op.Insert.Task.Tenant, op.Insert.IdemKey})
	case op.Update != nil:
		delete(k.tasks, op.Update.Task.ID)
	case op.Cancel != nil:
		delete(k.tasks, op.Cancel.Task)
	}
	if op.Session != nil {
		delete(k.sessions, sessionKey{op.Session.Session.Tenant, op.Session.Session.ID})
	}
}

func (k *knownRows) add(a *answer) {
	for i := range a.tasks {
		t := &a.tasks[i]
		k.tasks[t.task.ID] = t
		if t.key != nil {
			k.keys[idemKey{t.task.Tenant, string(t.key)}] = t
		}
	}
	for key, gen := range a.generations {
		k.sessions[key] = gen
	}
}
