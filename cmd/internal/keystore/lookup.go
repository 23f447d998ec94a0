package keystore

import (
	"context"
	"fmt"
	"sync"

	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/persistence"
)

// maxLookups bounds the ids that nothing is known about and that wait for an
// answer; beyond it callers are told to try again.
const maxLookups = 4096

// lookup tells ids of keys from others: whoever asks while a question is under
// way is part of the next one, so that a flood of wrong ids costs one query at a
// time and keeps a right one waiting for two.
type lookup struct {
	repo persistence.Keys

	mu      sync.Mutex
	waiting map[string][]chan error
	n       int // of those who wait
	asking  bool
	run     sync.WaitGroup
}

// exists is nil for the id of a key, and CodeNotFound for no key's.
func (l *lookup) exists(ctx context.Context, id string) error {
	answer := make(chan error, 1)
	l.mu.Lock()
	if l.n >= maxLookups {
		l.mu.Unlock()
		return fmt.Errorf("read api key: too many ids are looked up: %w", persistence.ErrUnavailable)
	}
	if l.waiting == nil {
		l.waiting = map[string][]chan error{}
	}
	l.n++
	l.waiting[id] = append(l.waiting[id], answer)
	if !l.asking {
		l.asking = true
		ctx := context.WithoutCancel(ctx) // it is for others, too
		l.run.Go(func() { l.ask(ctx) })
	}
	l.mu.Unlock()
	select {
	case err := <-answer:
		return err
	case <-ctx.Done():
		return fmt.Errorf("read api key: %w", ctx.Err())
	}
}

// ask asks until nobody waits.
func (l *lookup) ask(ctx context.Context) {
	for {
		l.mu.Lock()
		batch := l.waiting
		l.waiting, l.n = nil, 0
		l.asking = len(batch) > 0
		l.mu.Unlock()
		if len(batch) == 0 {
			return
		}
		ids := make([]string, 0, len(batch))
		for id := range batch {
			ids = append(ids, id)
		}
		qctx, cancel := context.WithTimeout(ctx, readTime)
		versions, err := l.repo.Versions(qctx, ids)
		cancel()
		for id, answers := range batch {
			said := err
			if _, ok := versions[id]; err == nil && !ok {
				said = noSuchKey()
			} else if err != nil {
				said = fmt.Errorf("read api key: %w", err)
			}
			for _, answer := range answers {
				answer <- said
			}
		}
	}
}

func noSuchKey() error {
	return &messages.Error{Code: messages.CodeNotFound, Message: "there is no such key"}
}
