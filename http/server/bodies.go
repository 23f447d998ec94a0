package server

import (
	"io"
	"slices"
)

// Bodies are read before their request takes a place: whoever sends slowly keeps
// nobody waiting. What they take is bounded all the same, in all and for each
// key, tenant and address.
const (
	maxBodyBytes = 64 << 20
	// firstBytes is what a body gets before anything of it has arrived.
	firstBytes = 4 << 10
)

// receive reads a body of at most limit bytes; one more than that is read from a
// longer one. Memory is taken as the bytes arrive, whatever was announced.
func (c *call) receive(limit int64) ([]byte, error) {
	c.load = &held{of: c.s.bodies, who: slices.Compact(append(c.holders(), c.s.origin(c.r)))}
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
