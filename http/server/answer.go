package server

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"io"
	"math"
	"net/http"
	"time"

	"github.com/dash-fleet/dash/http/api"
)

const (
	// answerBuffer is up to where an answer is gathered before it is sent: it then
	// has a length, and may still be refused.
	answerBuffer = 64 << 10
	// pageBytes is about where a page ends, in bytes of JSON.
	pageBytes = 4 << 20
)

// answer is a JSON answer that is sent while it is made. A long one has no
// length; if it cannot be brought to its end its connection is cut.
type answer struct {
	c      *call
	status int
	buf    *bytes.Buffer // of what is not sent yet, nil: it has begun
	out    io.Writer
	z      *gzip.Writer
	size   int
}

func (c *call) answer(status int) *answer {
	if c.repeats != 0 {
		status = c.repeats
	}
	buf := buffers.Get().(*bytes.Buffer)
	buf.Reset()
	return &answer{c: c, status: status, buf: buf}
}

// Write implements io.Writer.
func (a *answer) Write(p []byte) (int, error) {
	a.size += len(p)
	if a.buf != nil {
		if a.buf.Len()+len(p) <= answerBuffer {
			return a.buf.Write(p)
		}
		if err := a.begin(); err != nil {
			return 0, err
		}
	}
	return a.out.Write(p)
}

func (a *answer) begin() error {
	c := a.c
	c.status = a.status
	h := c.w.Header()
	h["Content-Type"] = []string{"application/json"}
	h.Add("Vary", "Accept-Encoding")
	a.out = c.w
	if acceptsGzip(c.r.Header) {
		h.Set("Content-Encoding", "gzip")
		a.z = gzips.Get().(*gzip.Writer)
		a.z.Reset(c.w)
		a.out = a.z
	}
	c.w.WriteHeader(a.status)
	buf := a.buf
	a.buf = nil
	_, err := a.out.Write(buf.Bytes())
	buffers.Put(buf)
	return err
}

// end sends the rest. An error is one of encoding or of a client that is gone.
func (a *answer) end(err error) error {
	switch {
	case a.buf != nil: // nothing was sent
		if err == nil {
			a.c.bytes(a.status, "application/json", a.buf.Bytes())
		}
		buffers.Put(a.buf)
		return err
	case a.z != nil:
		if err == nil {
			err = a.z.Close()
		}
		gzips.Put(a.z)
	}
	if err != nil {
		panic(http.ErrAbortHandler) // the client must not take a part for the whole
	}
	return nil
}

// value writes v as JSON, with its long texts.
func (a *answer) value(v any, l *api.Long) error {
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return err
	}
	return l.Write(a, bytes.TrimSuffix(buf.Bytes(), []byte("\n")))
}

// pageEnd is what stands behind the items of a list.
type pageEnd struct {
	NextCursor *string    `json:"next_cursor"`
	SearchedTo *time.Time `json:"searched_to,omitempty"`
	Session    string     `json:"session,omitempty"`
}

// list answers with up to n items, as many as a page has room for. item gives
// one, end what stands behind the first so many.
func (c *call) list(n int, item func(i int, l *api.Long) any, end func(sent int) pageEnd) error {
	a := c.answer(http.StatusOK)
	return a.end(a.items(n, pageBytes, item, end))
}

// page answers with n items, which whoever read them has bounded.
func (c *call) page(n int, item func(i int, l *api.Long) any, end pageEnd) error {
	a := c.answer(http.StatusOK)
	return a.end(a.items(n, math.MaxInt, item, func(int) pageEnd { return end }))
}

func (a *answer) items(n, room int, item func(i int, l *api.Long) any, end func(sent int) pageEnd) error {
	begin, sent := `{"items":[`, 0
	for ; sent < n && (sent == 0 || a.size < room); sent++ {
		if _, err := io.WriteString(a, begin); err != nil {
			return err
		}
		var l api.Long
		if err := a.value(item(sent, &l), &l); err != nil {
			return err
		}
		begin = ","
	}
	if sent == 0 {
		if _, err := io.WriteString(a, begin); err != nil {
			return err
		}
	}
	b, err := json.Marshal(end(sent))
	if err != nil {
		return err
	}
	_, err = a.Write(append([]byte("],"), append(b[1:], '\n')...))
	return err
}

// task answers with a task and its texts.
func (c *call) task(status int, t Task) error {
	v := viewTask(t, true)
	var l api.Long
	l.Task(&v)
	a := c.answer(status)
	err := a.value(v, &l)
	if err == nil {
		_, err = a.Write([]byte("\n"))
	}
	return a.end(err)
}
