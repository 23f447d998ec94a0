package feed

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/dash-fleet/dash/messages"
)

const (
	// tailPage is how many events are read at once, in tailTimeout at most.
	tailPage    = 500
	tailTimeout = 5 * time.Second
	// settle is how long a notice waits for what this node itself committed, which
	// is published without being read.
	settle = 10 * time.Millisecond
	// readAgain is the pause after a look at a store that does not answer.
	readAgain = 500 * time.Millisecond
	// listenAgain is the pause after a store that does not tell of new events.
	listenAgain = time.Second
)

// Log is the event log in the store, see persistence.Store.
type Log interface {
	Events(ctx context.Context, since int64, limit int) (events []*messages.Event, oldest int64, err error)
	WatchEvents(ctx context.Context, grown func(newest int64)) error
}

// Tail says how a feed learns of what it was not handed.
type Tail struct {
	Log Log
	// Every is the pause between two looks at the log while no event comes: a lost
	// notice costs that long, never an event. 0: nobody else writes, so that the log
	// is read only after a hole.
	Every  time.Duration
	Logger *slog.Logger
}

// Follow publishes what others write to the log, in its order, until ctx ends.
func (f *Feed) Follow(ctx context.Context, t Tail) {
	var tick <-chan time.Time
	if t.Every > 0 {
		ticker := time.NewTicker(t.Every)
		defer ticker.Stop()
		tick = ticker.C
		var listener sync.WaitGroup
		defer listener.Wait()
		listener.Go(func() { f.listen(ctx, t) })
	}
	for seen := int64(-1); ; {
		select {
		case <-ctx.Done():
			return
		case <-f.hole:
		case <-f.news:
			_, newest := f.position()
			pause(ctx, settle)
			if last, _ := f.position(); last >= newest {
				continue
			}
		case <-tick:
			if last, known := f.position(); last != seen && last >= known {
				seen = last // it moves by itself
				continue
			}
		}
		if err := f.catchUp(ctx, t.Log); err != nil {
			pause(ctx, readAgain)
			poke(f.hole)
		}
	}
}

// listen hears of new events. A store that does not tell of them is tried again.
func (f *Feed) listen(ctx context.Context, t Tail) {
	for deaf := false; ctx.Err() == nil; pause(ctx, listenAgain) {
		err := t.Log.WatchEvents(ctx, func(newest int64) {
			if deaf {
				t.Logger.Info("the store tells of new events again")
			}
			deaf = false
			f.grown(newest)
		})
		if ctx.Err() == nil && !deaf {
			deaf = true
			t.Logger.Warn("the store does not tell of new events, this node looks for them instead", slog.Any("err", err))
		}
	}
}

// grown notes that the log holds an event with that Seq, or may.
func (f *Feed) grown(newest int64) {
	f.mu.Lock()
	f.known = max(f.known, newest)
	f.mu.Unlock()
	poke(f.news)
}

// position is how far the watchers are, and how far the log is as far as is known.
func (f *Feed) position() (last, known int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.last, f.known
}

// catchUp publishes the log up to its end.
func (f *Feed) catchUp(ctx context.Context, log Log) error {
	for {
		last, known := f.position()
		read, cancel := context.WithTimeout(ctx, tailTimeout)
		page, _, err := log.Events(read, last, tailPage)
		cancel()
		if err != nil || f.took(page, known) {
			return err
		}
	}
}

// took publishes a page and says whether it was the last one. known was known of
// the log before it was read.
func (f *Feed) took(page []*messages.Event, known int64) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.deliver(page)
	if len(page) == tailPage {
		return false
	}
	if f.known == known {
		f.known = f.last // whatever was said of more was not so
	}
	return true
}

func poke(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default: // it will be seen with what is there already
	}
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}
