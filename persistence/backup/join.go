package backup

import (
	"context"
	"errors"
	"iter"

	"github.com/dash-fleet/dash/persistence"
)

// account says which sections are in the repositories of an engine whose queue
// is elsewhere.
func account(s persistence.Section) bool {
	switch s {
	case persistence.SectionTenants, persistence.SectionUsers, persistence.SectionLogins, persistence.SectionKeys, persistence.SectionAudit,
		persistence.SectionGateways, persistence.SectionPools:
		return true
	}
	return false
}

// Join is the store whose queue is in one engine and whose accounts and
// configuration are in another. The mark is the queue's; the accounts are read
// later, so nothing that was answered before the mark is missing. It owns both.
func Join(queue, accounts persistence.Snapshotter) persistence.Snapshotter {
	return &joined{queue, accounts}
}

type joined struct{ queue, accounts persistence.Snapshotter }

func (j *joined) Close() error { return errors.Join(j.queue.Close(), j.accounts.Close()) }

func (j *joined) Snapshot(ctx context.Context) (persistence.Snapshot, error) {
	q, err := j.queue.Snapshot(ctx)
	if err != nil {
		return nil, err
	}
	a, err := j.accounts.Snapshot(ctx)
	if err != nil {
		return nil, errors.Join(err, q.Close())
	}
	return &joinedSnapshot{q, a}, nil
}

type joinedSnapshot struct{ queue, accounts persistence.Snapshot }

func (j *joinedSnapshot) Source() persistence.Source { return j.queue.Source() }
func (j *joinedSnapshot) Close() error               { return errors.Join(j.queue.Close(), j.accounts.Close()) }

// Rows gives of each engine what it is responsible for.
func (j *joinedSnapshot) Rows(ctx context.Context, emit func(row any) error) error {
	only := func(accounts bool) func(any) error {
		return func(row any) error {
			c, err := codecFor(row)
			if err != nil || account(c.section) != accounts {
				return err
			}
			return emit(row)
		}
	}
	if err := j.accounts.Rows(ctx, only(true)); err != nil {
		return err
	}
	return j.queue.Rows(ctx, only(false))
}

// JoinTargets is Join for a restore. The accounts become durable just before
// the queue does: if the queue then fails, they are there already, and the next
// restore says so. It owns both.
func JoinTargets(queue, accounts persistence.Restorer) persistence.Restorer {
	return &joinedTarget{queue, accounts}
}

type joinedTarget struct{ queue, accounts persistence.Restorer }

func (j *joinedTarget) Close() error { return errors.Join(j.queue.Close(), j.accounts.Close()) }

// item is a row on its way to the accounts.
type item struct {
	row any
	err error
}

// result is what became of the accounts.
type result struct {
	counts map[persistence.Section]int64
	err    error
}

// Restore splits the rows. The accounts are written by a goroutine that ends
// before Restore returns.
func (j *joinedTarget) Restore(ctx context.Context, mark persistence.Mark, rows iter.Seq2[any, error]) (map[persistence.Section]int64, error) {
	s := &split{items: make(chan item), done: make(chan result, 1), gone: make(chan struct{})}
	go func() {
		counts, err := j.accounts.Restore(ctx, mark, s.accounts)
		close(s.gone)
		s.done <- result{counts, err}
	}()
	counts, err := j.queue.Restore(ctx, mark, func(yield func(any, error) bool) { s.queue(rows, yield) })
	if !s.ended {
		// The queue did not take the rows to their end: the accounts keep nothing.
		s.end(errors.Join(err, errStopped))
	}
	if s.result.err != nil && !errors.Is(s.result.err, errStopped) {
		return nil, s.result.err
	}
	if err != nil {
		return nil, err
	}
	for section, n := range s.result.counts {
		if account(section) {
			counts[section] = n
		}
	}
	return counts, nil
}

// split deals rows out to two engines. Only items, done and gone are shared.
type split struct {
	items  chan item
	done   chan result
	gone   chan struct{} // closed when the accounts take no more
	ended  bool
	result result
}

// accounts yields what the queue's side sends.
func (s *split) accounts(yield func(any, error) bool) {
	for it := range s.items {
		if !yield(it.row, it.err) || it.err != nil {
			return
		}
	}
}

// queue yields the queue's rows and sends the others away. Before the queue
// becomes durable it waits until the accounts are.
func (s *split) queue(rows iter.Seq2[any, error], yield func(any, error) bool) {
	for row, err := range rows {
		if err != nil {
			s.end(err)
			yield(nil, err)
			return
		}
		c, err := codecFor(row)
		switch {
		case err != nil:
			s.end(err)
			yield(nil, err)
			return
		case !account(c.section):
			if !yield(row, nil) {
				return
			}
		case !s.send(item{row: row}):
			s.end(errStopped)
			yield(nil, s.result.err)
			return
		}
	}
	if s.end(nil); s.result.err != nil {
		yield(nil, s.result.err)
	}
}

// send reports whether the accounts still take rows.
func (s *split) send(it item) bool {
	select {
	case s.items <- it:
		return true
	case <-s.gone:
		return false
	}
}

// end tells the accounts that no more comes, or why, and waits for them.
func (s *split) end(err error) {
	if err != nil {
		s.send(item{err: err})
	}
	close(s.items)
	s.ended = true
	s.result = <-s.done
}
