package openclaw

import "sync"

// Deltas hands reply texts from the reader to a slower consumer: the latest
// text per run, nothing older, for at most a fixed number of runs. Put never
// blocks.
type Deltas struct {
	mu     sync.Mutex
	latest map[string]RunText
	limit  int
	notify func()
}

// NewDeltas keeps up to limit runs. notify is called on the reader when the
// box turns from empty to filled; it must not block.
func NewDeltas(limit int, notify func()) *Deltas {
	return &Deltas{latest: make(map[string]RunText), limit: limit, notify: notify}
}

// Put stores the text, in place of an older one of the same run. It reports
// false when the box is full of other runs; the text is then dropped (the next
// one, or the final answer, holds it again).
func (d *Deltas) Put(t RunText) bool {
	d.mu.Lock()
	old, known := d.latest[t.RunID]
	if !known && len(d.latest) >= d.limit {
		d.mu.Unlock()
		return false
	}
	t.Replaced = t.Replaced || known && old.Replaced
	first := len(d.latest) == 0
	d.latest[t.RunID] = t
	d.mu.Unlock()
	if first && d.notify != nil {
		d.notify()
	}
	return true
}

// Take empties the box. Order between runs has no meaning.
func (d *Deltas) Take() []RunText {
	d.mu.Lock()
	defer d.mu.Unlock()
	out := make([]RunText, 0, len(d.latest))
	for _, t := range d.latest {
		out = append(out, t)
	}
	clear(d.latest)
	return out
}
