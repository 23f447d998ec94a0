package server

import (
	"io"
	"net/http"
	"time"
)

// A refusal often comes before the body was read. Most clients write the whole
// body before they look for an answer; when the server closes meanwhile they see
// a broken pipe and never the refusal. So what is left of the body is read and
// thrown away first, within bounds.
const (
	maxDrain  = 32 << 20 // bytes; a longer body is cut, and a slower one than Config.DrainTimeout
	maxDrains = 64       // at once; beyond them bodies are cut
)

// drain reads what is left of the request's body.
func (c *call) drain() {
	r := c.r
	switch {
	case r.ContentLength == 0 || r.Body == nil:
		return
	case r.Header.Get("Expect") != "" && c.raw == nil:
		return // its client waits for leave to send, or for the refusal
	}
	select {
	case c.s.drains <- struct{}{}:
		defer func() { <-c.s.drains }()
	default:
		c.s.metrics.undrained.Inc()
		return
	}
	deadline := http.NewResponseController(c.w)
	_ = deadline.SetReadDeadline(time.Now().Add(c.s.cfg.DrainTimeout)) // a recorder in a test has none
	if n, err := io.Copy(io.Discard, io.LimitReader(r.Body, maxDrain)); err != nil || n == maxDrain {
		c.s.metrics.undrained.Inc()
		return
	}
	_ = deadline.SetReadDeadline(time.Time{}) // see ServeHTTP
}
