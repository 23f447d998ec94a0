package server

import (
	"io"
	"sync"
)

// Bodies are read before their request takes a place: whoever sends slowly keeps
// nobody waiting. What they take is bounded all the same, in all and for each
// holder (key, address) to half of that.
const (
	maxBodyBytes = 64 << 20
	// firstBytes is what a body gets before anything of it has arrived.
	firstBytes = 4 << 10
)

// weights bounds a sum, and the part of each holder in it.
type weights struct {
	max int64

	mu    sync.Mutex
	taken int64
	by    map[string]int64
}

func newWeights(n int64) *weights { return &weights{max: n, by: map[string]int64{}} }

// load is what one request has taken of it.
type load struct {
	of      *weights
	holders [2]string
	n       int64
}

// grow takes n more; false when there is not so much.
func (l *load) grow(n int64) bool {
	w := l.of
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.taken+n > w.max {
		return false
	}
	for _, h := range l.holders {
		if w.by[h]+n > w.max/2 {
			return false
		}
	}
	w.taken += n
	l.n += n
	for _, h := range l.holders {
		w.by[h] += n
	}
	return true
}

// release gives everything back. A nil load has nothing.
func (l *load) release() {
	if l == nil || l.n == 0 {
		return
	}
	w := l.of
	w.mu.Lock()
	defer w.mu.Unlock()
	w.taken -= l.n
	for _, h := range l.holders {
		if w.by[h] -= l.n; w.by[h] == 0 {
			delete(w.by, h)
		}
	}
	l.n = 0
}

func (w *weights) sum() int64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.taken
}

// receive reads a body of at most limit bytes; one more than that is read from a
// longer one. Memory is taken as the bytes arrive, whatever was announced.
func (c *call) receive(limit int64) ([]byte, error) {
	c.load = &load{of: c.s.bodies, holders: [2]string{c.holder(), c.s.origin(c.r)}}
	if !c.load.grow(c.s.bodyWeight) {
		return nil, full()
	}
	most := limit + 1
	if n := c.r.ContentLength; n > 0 {
		most = min(most, n+1) // room for the end to show without growing
	}
	buf := make([]byte, 0, min(most, firstBytes))
	for {
		if int64(len(buf)) == most {
			return buf, nil
		}
		if len(buf) == cap(buf) {
			next := min(most, 8*int64(cap(buf)))
			if !c.load.grow(next) { // the old bytes are garbage, not gone
				return nil, full()
			}
			buf = append(make([]byte, 0, next), buf...)
		}
		n, err := c.r.Body.Read(buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+n]
		if err == io.EOF { //nolint:errorlint // io.Reader says it bare
			return buf, nil
		}
		if err != nil {
			return nil, incomplete(err)
		}
	}
}
