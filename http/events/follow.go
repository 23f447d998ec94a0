package events

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/dash-fleet/dash/messages"
)

// pageSize is how many entries are read from the log at once.
const pageSize = 500

// errSlow ends a watcher that did not take its events in time.
var errSlow = errors.New("too slow")

// gap is history that the log does not hold. The stream goes on after resume.
type gap struct{ from, to, resume int64 }

// follower reads the log from a position on, first its past, then live,
// without hole or double. It belongs to one goroutine.
type follower struct {
	log     Log
	buffer  int
	timeout time.Duration // of one read of the log
	last    int64         // the newest seq it has returned or skipped
	sub     Subscription  // nil while it reads the past
	live    bool
	placed  bool // last is known to be a position of this log
	// pay counts a page of the past, beyond the first, and says how long to wait for
	// it; nil: nobody counts.
	pay   func(context.Context) time.Duration
	pages int // of the past in a row
}

// next waits for events after last. It returns at most one of events and a
// gap, or neither when tick or poke fired. errSlow when the watcher was cut.
func (f *follower) next(ctx context.Context, tick <-chan time.Time, poke <-chan struct{}) ([]*messages.Event, *gap, error) {
	if !f.placed {
		if g, err := f.place(ctx); err != nil || g != nil {
			return nil, g, err
		}
	}
	for !f.live {
		if f.pages > 0 && f.pay != nil {
			if wait := f.pay(ctx); wait > 0 {
				select {
				case <-time.After(wait):
					continue
				case <-ctx.Done():
					return nil, nil, ctx.Err()
				case <-tick:
				case <-poke:
				}
				return nil, nil, nil
			}
		}
		page, g, err := f.read(ctx)
		if f.pages++; len(page) < pageSize {
			f.pages = 0 // the end is near: what is left is no page of its own
		}
		switch {
		case err != nil || g != nil || len(page) == pageSize:
			return page, g, err
		case f.sub == nil:
			// Near the end: watch first, then read the rest, so nothing falls between.
			f.sub = f.log.Subscribe(f.buffer)
		default:
			f.live = true
		}
		if len(page) > 0 {
			return page, nil, nil
		}
	}
	for {
		select {
		case <-ctx.Done():
			return nil, nil, ctx.Err()
		case <-tick:
			return nil, nil, nil
		case <-poke:
			return nil, nil, nil
		case e, open := <-f.sub.C():
			if !open {
				return nil, nil, errSlow
			}
			if events, g, err := f.take(ctx, e); err != nil || g != nil || len(events) > 0 {
				return events, g, err
			}
		}
	}
}

// place goes back from a position behind the log's end. Only another log can
// have given it, perhaps one that was restored since; a follower that kept it
// would be deaf until the log has grown up to it.
func (f *follower) place(ctx context.Context) (*gap, error) {
	ctx, cancel := context.WithTimeout(ctx, f.timeout)
	defer cancel()
	end, err := f.log.LastSeq(ctx)
	if err != nil {
		return nil, fmt.Errorf("read the end of the log: %w", err)
	}
	f.placed = true
	if f.last <= end {
		return nil, nil
	}
	g := &gap{from: end + 1, to: f.last, resume: end}
	f.last = end
	return g, nil
}

// take adds what is waiting behind e, or reads what is missing before it from the log.
func (f *follower) take(ctx context.Context, e *messages.Event) ([]*messages.Event, *gap, error) {
	var out []*messages.Event
	for n := 1; ; n++ {
		switch {
		case e.Seq <= f.last: // read from the log already
		case e.Seq == f.last+1:
			out = append(out, e)
			f.last = e.Seq
		default:
			// The log holds e, too: go back to reading the past after these.
			if f.live = false; len(out) > 0 {
				return out, nil, nil
			}
			return f.read(ctx)
		}
		if n == pageSize {
			return out, nil, nil
		}
		select {
		case next, open := <-f.sub.C():
			if !open {
				return out, nil, nil // the next call finds it closed too
			}
			e = next
		default:
			return out, nil, nil
		}
	}
}

// read returns the next page of the log and moves on behind it.
func (f *follower) read(ctx context.Context) ([]*messages.Event, *gap, error) {
	ctx, cancel := context.WithTimeout(ctx, f.timeout)
	defer cancel()
	page, oldest, err := f.log.Events(ctx, f.last, pageSize)
	if err != nil {
		return nil, nil, fmt.Errorf("read events: %w", err)
	}
	if oldest > f.last+1 {
		g := &gap{from: f.last + 1, to: oldest - 1, resume: oldest - 1}
		f.last = g.to
		return nil, g, nil
	}
	if n := len(page); n > 0 {
		f.last = page[n-1].Seq
	}
	return page, nil, nil
}

// seek continues after another position.
func (f *follower) seek(since int64) {
	f.close()
	f.last, f.live, f.placed, f.pages = since, false, false, 0
}

func (f *follower) close() {
	if f.sub != nil {
		f.sub.Close()
		f.sub = nil
	}
}
