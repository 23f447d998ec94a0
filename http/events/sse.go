package events

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/dash-fleet/dash/http/api"
	"github.com/dash-fleet/dash/messages"
)

// sse writes server-sent events. It belongs to one goroutine.
type sse struct {
	w       http.ResponseWriter
	rc      *http.ResponseController
	timeout time.Duration
	until   time.Time // of the message that is sent in pieces, zero: none is
	permit  *permit
	buf     bytes.Buffer
}

// newSSE answers 200 and begins the stream after the position at, which it says
// at once: a client that is cut before its first event resumes there.
func newSSE(w http.ResponseWriter, timeout time.Duration, p *permit, at int64) (*sse, error) {
	h := w.Header()
	h["Content-Type"] = []string{"text/event-stream"}
	h["X-Accel-Buffering"] = []string{"no"}
	w.WriteHeader(http.StatusOK)
	s := &sse{w: w, rc: http.NewResponseController(w), timeout: timeout, permit: p}
	s.buf.WriteString("retry: 2000\n")
	s.position(at)
	// From here on the stream has begun; a client that is gone shows at the next write.
	_ = s.write()
	return s, nil
}

// message adds one message; flush sends it. id 0: none.
func (s *sse) message(typ string, id int64, data []byte) {
	s.begin(typ, id)
	s.buf.Write(data) // JSON holds no line break
	s.buf.WriteString("\n\n")
}

func (s *sse) begin(typ string, id int64) {
	if id > 0 {
		s.buf.WriteString("id: " + strconv.FormatInt(id, 10) + "\n")
	}
	s.buf.WriteString("event: " + typ + "\ndata: ")
}

// pushFrom is how much of one message is gathered before it is sent.
const pushFrom = 64 << 10

// pieces adds a long message a part at a time.
type pieces struct {
	s   *sse
	ctx context.Context //nolint:containedctx // of the one call that writes it
}

func (p pieces) Write(b []byte) (int, error) {
	p.s.buf.Write(b)
	if p.s.buf.Len() < pushFrom {
		return len(b), nil
	}
	return len(b), p.s.flush(p.ctx)
}

func (s *sse) event(e *messages.Event) error {
	b, err := encodeEvent(e, s.permit.v.Principal)
	if err == nil {
		s.message(e.Type, e.Seq, b)
	}
	return err
}

// gap tells of missing history; a client that resumes goes on after g.resume.
func (s *sse) gap(g *gap) error {
	b, err := encodeGap(g.from, g.to)
	if err == nil {
		s.message(typeGap, g.resume, b)
	}
	return err
}

// send adds a message with long texts, which are sent as they are written, in the
// time of one write.
func (s *sse) send(ctx context.Context, typ string, id int64, data any, l *api.Long) error {
	b, err := encode(typ, 0, messages.Now(), data)
	if err != nil {
		return err
	}
	s.until = time.Now().Add(s.timeout)
	defer func() { s.until = time.Time{} }()
	s.begin(typ, id)
	if err := l.Write(pieces{s, ctx}, b); err != nil {
		return err
	}
	s.buf.WriteString("\n\n")
	return nil
}

// position moves the client's place without an event: an id without data.
func (s *sse) position(at int64) { s.buf.WriteString("id: " + strconv.FormatInt(at, 10) + "\n\n") }

func (s *sse) heartbeat(at int64) {
	s.buf.WriteString(": heartbeat\n")
	s.position(at)
}

// flush sends what was added, to a watcher that may have it. One that does not
// take it in time is cut, and one whose credential ends meanwhile at once.
func (s *sse) flush(ctx context.Context) error {
	if s.buf.Len() == 0 {
		return nil
	}
	if err := s.permit.confirmed(ctx); err != nil {
		return err
	}
	cut := s.permit.whenEnded(ctx, func() { _ = s.rc.SetWriteDeadline(time.Now()) })
	defer cut()
	return s.write()
}

func (s *sse) write() error {
	until := s.until
	if until.IsZero() {
		until = time.Now().Add(s.timeout)
	}
	_ = s.rc.SetWriteDeadline(until) // a recorder in a test has none
	_, err := s.w.Write(s.buf.Bytes())
	s.buf.Reset()
	if err == nil {
		err = s.rc.Flush()
	}
	if err != nil {
		return fmt.Errorf("%w: %w", errLeft, err)
	}
	return nil
}
