package server

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/dash-fleet/dash/messages"
)

// budget bounds a sum of bytes in memory, and the part of each holder in it to
// shareOf that.
type budget struct {
	total int64
	wait  time.Duration // of take

	mu      sync.Mutex
	sum     int64
	by      map[string]int64
	queue   []*waiter
	refused uint64 // by take
}

// held is what one request holds, in the name of each of its holders.
type held struct {
	of    *budget
	who   []string
	bytes int64
}

// waiter waits until it may hold so many bytes.
type waiter struct {
	held
	wants int64
	ready chan struct{} // closed when it holds them
}

func newBudget(total int64, wait time.Duration) *budget {
	return &budget{total: total, wait: wait, by: map[string]int64{}}
}

// grow takes so many more bytes at once; false when there is no room for them.
func (h *held) grow(bytes int64) bool {
	h.of.mu.Lock()
	defer h.of.mu.Unlock()
	if !h.inShare(bytes) || h.of.sum+bytes > h.of.total {
		return false
	}
	h.add(bytes)
	return true
}

// inShare reports whether no holder gets more than its share. h.of.mu is held.
func (h *held) inShare(bytes int64) bool {
	for i, who := range h.who {
		if h.of.by[who]+bytes > shareOf(h.of.total, i) {
			return false
		}
	}
	return true
}

// add takes bytes, or gives them back. h.of.mu is held.
func (h *held) add(bytes int64) {
	h.bytes += bytes
	h.of.sum += bytes
	for _, who := range h.who {
		if h.of.by[who] += bytes; h.of.by[who] == 0 {
			delete(h.of.by, who)
		}
	}
}

// keep gives back all but so many bytes. On nil it does nothing.
func (h *held) keep(bytes int64) {
	if h == nil || h.bytes <= bytes {
		return
	}
	h.of.mu.Lock()
	defer h.of.mu.Unlock()
	h.add(bytes - h.bytes)
	h.of.grant()
}

func (h *held) release() { h.keep(0) }

// take takes so many bytes, what one holder may have at most. Who finds no room waits a little, in
// the order of coming, and is refused then.
func (b *budget) take(ctx context.Context, who []string, bytes int64) (*held, error) {
	w := &waiter{held: held{of: b, who: who}, wants: min(bytes, shareOf(b.total, 0)), ready: make(chan struct{})}
	b.mu.Lock()
	b.queue = append(b.queue, w)
	b.grant()
	b.mu.Unlock()
	select {
	case <-w.ready:
		return &w.held, nil
	default:
	}
	late := time.NewTimer(b.wait)
	defer late.Stop()
	var err error
	select {
	case <-w.ready:
		return &w.held, nil
	case <-late.C:
		err = full()
	case <-ctx.Done():
		err = ctx.Err()
	}
	return b.giveUp(w, err)
}

// giveUp ends a wait that did not come to its end at the last moment.
func (b *budget) giveUp(w *waiter, why error) (*held, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	i := slices.Index(b.queue, w)
	if i < 0 {
		return &w.held, nil
	}
	b.queue = slices.Delete(b.queue, i, i+1)
	b.grant()                                     // who stood behind it may fit
	if messages.CodeOf(why) == codeTooManyCalls { // else it left by itself
		b.refused++
	}
	return nil, why
}

// grant lets in who fits, in the order of coming: nobody passes one who waits for
// the total, only those who wait for a share of their own. b.mu is held.
func (b *budget) grant() {
	blocked := false
	b.queue = slices.DeleteFunc(b.queue, func(w *waiter) bool {
		if blocked || !w.inShare(w.wants) {
			return false
		}
		if blocked = b.sum+w.wants > b.total; blocked {
			return false
		}
		w.add(w.wants)
		close(w.ready)
		return true
	})
}

func (b *budget) taken() float64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return float64(b.sum)
}

func (b *budget) refusals() float64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return float64(b.refused)
}

// What answers are weighed with before they are read: a page of tasks with their
// texts is as stored, as decoded and partly as JSON in memory.
const (
	weighBodies = 16 << 20
	weighList   = 4 << 20
	weighTask   = 4 << 10 // of a task without its texts
)

// weigh makes room for an answer; release it when it was sent.
func (c *call) weigh(bytes int64) (*held, error) {
	return c.s.answers.take(c.ctx(), holders(c.principal), bytes)
}
