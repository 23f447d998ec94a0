package server

import (
	"context"
	"sync"
	"time"
)

// quota bounds how many things are under way: in all, and for each holder (a
// key, or an address without one) to half of that, so that nobody takes all.
type quota struct {
	all  chan struct{}
	each int

	mu sync.Mutex
	by map[string]*share // of holders that have a place or wait for one
}

// share is what one holder has.
type share struct {
	places chan struct{}
	users  int // that have a place or wait for one
}

func newQuota(n int) *quota {
	return &quota{all: make(chan struct{}, n), each: (n + 1) / 2, by: map[string]*share{}}
}

func (q *quota) taken() int { return len(q.all) }

// take takes a place, and waits for one no longer than patience; leave gives it back.
func (q *quota) take(ctx context.Context, holder string, patience time.Duration) (leave func(), err error) {
	until := time.Now().Add(patience)
	own := q.join(holder)
	if err := enter(ctx, own.places, until); err != nil {
		q.part(holder, own)
		return nil, err
	}
	if err := enter(ctx, q.all, until); err != nil {
		<-own.places
		q.part(holder, own)
		return nil, err
	}
	return func() { <-q.all; <-own.places; q.part(holder, own) }, nil
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

func (q *quota) join(holder string) *share {
	q.mu.Lock()
	defer q.mu.Unlock()
	own := q.by[holder]
	if own == nil {
		own = &share{places: make(chan struct{}, q.each)}
		q.by[holder] = own
	}
	own.users++
	return own
}

func (q *quota) part(holder string, own *share) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if own.users--; own.users == 0 {
		delete(q.by, holder)
	}
}
