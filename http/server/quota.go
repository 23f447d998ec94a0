package server

import (
	"context"
	"slices"
	"sync"
	"time"
)

// quota bounds how many things are under way: in all, and for each holder and
// the group that it is of to shareOf that, so that nobody takes all.
type quota struct {
	all chan struct{}

	mu sync.Mutex
	by map[string]*share // of holders that have a place or wait for one
}

// A hash of bcrypt takes a CPU for a quarter of a second: one is made at a time, and
// of a tenant one stands in line for that, so that a flood of one tenant keeps
// neither requests nor the new keys of others waiting for long.
const (
	maxHashes    = 1
	hashPatience = 10 * time.Second
)

// shareOf all is what one of its holders may have. The first is a key, or an
// address without one, and gets half. The others are groups that it is of, its tenant
// and its address: they get three quarters, so that more keys are worth little,
// and a key leaves something to the others of its groups.
func shareOf(all int64, holder int) int64 {
	if holder == 0 {
		return (all + 1) / 2
	}
	return all - all/4
}

// share is what one holder has.
type share struct {
	places chan struct{}
	users  int // that have a place or wait for one
}

func newQuota(n int) *quota {
	return &quota{all: make(chan struct{}, n), by: map[string]*share{}}
}

func (q *quota) taken() int { return len(q.all) }

// take takes a place in the name of all these holders, and waits for one no longer
// than patience; leave gives it back.
func (q *quota) take(ctx context.Context, who []string, patience time.Duration) (leave func(), err error) {
	until := time.Now().Add(patience)
	lines := append(q.join(who), q.all)
	for n, places := range lines {
		if err := enter(ctx, places, until); err != nil {
			q.part(who, lines[:n])
			return nil, err
		}
	}
	return func() { q.part(who, lines) }, nil
}

func enter(ctx context.Context, places chan struct{}, until time.Time) error {
	select {
	case places <- struct{}{}:
		return nil
	default:
	}
	patience := time.Until(until)
	if patience <= 0 {
		return full()
	}
	late := time.NewTimer(patience)
	defer late.Stop()
	select {
	case places <- struct{}{}:
		return nil
	case <-late.C:
		return full()
	case <-ctx.Done():
		return ctx.Err()
	}
}

// join returns the places of these holders; part is its end.
func (q *quota) join(who []string) []chan struct{} {
	q.mu.Lock()
	defer q.mu.Unlock()
	lines := make([]chan struct{}, 0, len(who)+1)
	for i, holder := range who {
		own := q.by[holder]
		if own == nil {
			own = &share{places: make(chan struct{}, shareOf(int64(cap(q.all)), i))}
			q.by[holder] = own
		}
		own.users++
		lines = append(lines, own.places)
	}
	return lines
}

// part gives back what was entered, the last first.
func (q *quota) part(who []string, entered []chan struct{}) {
	for _, places := range slices.Backward(entered) {
		<-places
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, holder := range who {
		if own := q.by[holder]; own.users == 1 {
			delete(q.by, holder)
		} else {
			own.users--
		}
	}
}
