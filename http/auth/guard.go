package auth

import (
	"context"
	"time"

	"github.com/dash-fleet/dash/messages"
)

const (
	// guardEvery is how often a credential in use is looked at although nothing
	// was said of it: a store forgets what is not asked for.
	guardEvery = 15 * time.Second
	// guardPatience is how long a credential may be uncheckable, after the time
	// for which a store that does not answer is trusted, and guardRetry the pause.
	guardPatience = 10 * time.Second
	guardRetry    = time.Second
)

// Ended reports whether the error is a clear no, not a check that failed.
func Ended(err error) bool {
	code := messages.CodeOf(err)
	return err != nil && (code == messages.CodeUnauthorized || code == messages.CodeForbidden)
}

// Guard returns a context for something that takes long, such as a stream. It
// ends, with the refusal as its cause, as soon as the authenticator knows that
// the credential has ended or may no longer do what access asks for. It owns a
// goroutine until the context ends; cancel waits for it.
func Guard(ctx context.Context, a Authenticator, token string, access Access) (guarded context.Context, cancel context.CancelFunc) {
	guarded, stop := context.WithCancelCause(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := watch(guarded, a, token, access); err != nil {
			stop(err)
		}
	}()
	return guarded, func() { stop(context.Canceled); <-done }
}

// watch returns the refusal, or nil when ctx ends.
func watch(ctx context.Context, a Authenticator, token string, access Access) error {
	for good := time.Now(); ; {
		changed := a.Changed() // before the look: what changes after it is seen
		p, err := a.Authenticate(ctx, token)
		if err == nil {
			err = access.Allows(p)
		}
		pause := guardEvery
		switch {
		case ctx.Err() != nil:
			return nil
		case err == nil:
			good = time.Now()
			if !p.ExpiresAt.IsZero() {
				pause = min(pause, time.Until(p.ExpiresAt))
			}
		case Ended(err), time.Since(good) > guardEvery+guardPatience:
			return err
		default:
			pause = guardRetry
		}
		t := time.NewTimer(pause)
		select {
		case <-ctx.Done():
		case <-changed:
		case <-t.C:
		}
		t.Stop()
		if ctx.Err() != nil {
			return nil
		}
	}
}
