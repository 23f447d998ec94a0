package events

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/dash-fleet/dash/http/auth"
	"github.com/dash-fleet/dash/messages"
)

const (
	// confirmedFor is how long a look at the credential serves what is handed
	// over. What it saw was at most 0.9 s old: together that is the second after
	// which nothing passes through a credential that has ended.
	confirmedFor = 100 * time.Millisecond
	// askAgain is the pause before another look while the credential cannot be confirmed.
	askAgain = 250 * time.Millisecond
	// cutIn is what a write under way gets when the credential has ended.
	cutIn = 50 * time.Millisecond
)

// permit is a viewer's leave to watch. It belongs to the stream's goroutine.
type permit struct {
	s   *Server
	v   Viewer
	at  time.Time // of the look that confirmed it last
	end context.CancelFunc
}

// permit returns a context that ends when the viewer's credential does.
func (s *Server) permit(ctx context.Context, v Viewer) (context.Context, *permit) {
	ctx, end := auth.Guard(ctx, s.auth, v.Token, auth.Need(v.Need))
	return ctx, &permit{s: s, v: v, end: end}
}

func (p *permit) close() { p.end() }

// confirmed waits until the store has confirmed the credential a moment ago. A
// stream of a node that is cut off from the store is silent until then, or
// until its context ends.
func (p *permit) confirmed(ctx context.Context) error {
	for ctx.Err() == nil {
		if time.Since(p.at) < confirmedFor {
			return nil
		}
		changed, now := p.s.auth.Changed(), time.Now()
		who, err := p.s.auth.Authenticate(ctx, p.v.Token)
		if err == nil {
			err = auth.Need(p.v.Need).Allows(who)
		}
		switch {
		case auth.Ended(err):
			return errCredential
		case err == nil && who.Stale.IsZero():
			p.at = now
			return nil
		}
		select {
		case <-ctx.Done():
		case <-changed:
		case <-time.After(askAgain):
		}
	}
	return ctx.Err()
}

// whenEnded calls cut if the credential ends and stop is not called within
// cutIn of that; after stop it is not called.
func (p *permit) whenEnded(ctx context.Context, cut func()) (stop func()) {
	var mu sync.Mutex
	over := false
	undo := context.AfterFunc(ctx, func() {
		if !auth.Ended(context.Cause(ctx)) {
			return
		}
		time.AfterFunc(cutIn, func() {
			mu.Lock()
			defer mu.Unlock()
			if !over {
				cut()
			}
		})
	})
	return func() {
		undo()
		mu.Lock()
		defer mu.Unlock()
		over = true
	}
}

// reason is why the stream ended: what the guard said, if it was the guard.
func (p *permit) reason(ctx context.Context, err error) error {
	var said *messages.Error
	switch cause := context.Cause(ctx); {
	case err == nil || !errors.As(cause, &said):
		return err
	case auth.Ended(cause):
		return errCredential
	}
	return fmt.Errorf("%w: %w", errUnchecked, said)
}
