package server

import (
	"context"
	"slices"
	"sync"
	"time"
)

// budget bounds what answers hold in memory at once, in bytes, and what those of
// one key do: a page is weighed before it is read and until it was sent. Who
// finds no room waits a little, in the order of coming, and is refused then.
type budget struct {
	total, share int64
	wait         time.Duration

	mu      sync.Mutex
	held    int64
	by      map[string]int64
	queue   []*held
	refused uint64
}

// held is what one answer holds.
type held struct {
	w     *budget
	who   string
	bytes int64
	ready chan struct{} // closed when it is held
}

func newBudget(total int64, wait time.Duration) *budget {
	return &budget{total: total, share: total / 2, wait: wait, by: map[string]int64{}}
}

// take waits for room for so many bytes.
func (w *budget) take(ctx context.Context, who string, bytes int64) (*held, error) {
	h := &held{w: w, who: who, bytes: min(bytes, w.share), ready: make(chan struct{})}
	w.mu.Lock()
	w.queue = append(w.queue, h)
	w.grant()
	w.mu.Unlock()
	select {
	case <-h.ready:
		return h, nil
	default:
	}
	t := time.NewTimer(w.wait)
	defer t.Stop()
	var err error
	select {
	case <-h.ready:
		return h, nil
	case <-t.C:
		err = full()
	case <-ctx.Done():
		err = ctx.Err()
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	i := slices.Index(w.queue, h)
	if i < 0 {
		return h, nil // it came at the last moment
	}
	w.queue = slices.Delete(w.queue, i, i+1)
	w.grant() // who stood behind it may fit
	w.refused++
	return nil, err
}

// grant lets in who fits, in the order of coming: nobody passes one who waits for
// the total, only those who wait for a share of their own. w.mu is held.
func (w *budget) grant() {
	w.queue = slices.DeleteFunc(w.queue, func() func(*held) bool {
		blocked := false
		return func(h *held) bool {
			if blocked || w.by[h.who]+h.bytes > w.share {
				return false
			}
			if blocked = w.held+h.bytes > w.total; blocked {
				return false
			}
			w.held += h.bytes
			w.by[h.who] += h.bytes
			close(h.ready)
			return true
		}
	}())
}

// keep gives back all but so many bytes. On nil it does nothing.
func (h *held) keep(bytes int64) {
	if h == nil {
		return
	}
	h.w.mu.Lock()
	defer h.w.mu.Unlock()
	back := h.bytes - min(bytes, h.bytes)
	h.bytes -= back
	h.w.held -= back
	if h.w.by[h.who] -= back; h.w.by[h.who] == 0 {
		delete(h.w.by, h.who)
	}
	h.w.grant()
}

func (h *held) release() { h.keep(0) }

func (w *budget) now() float64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return float64(w.held)
}

func (w *budget) refusals() float64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return float64(w.refused)
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
	return c.s.budget.take(c.ctx(), c.principal.ID, bytes)
}
