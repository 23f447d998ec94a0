package openclaw

import (
	"cmp"
	"context"
	"errors"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coder/websocket"
)

const closeGrace = time.Second

// Conn is one connection to one gateway process. All methods may be called
// from any goroutine; see the package comment for what callbacks may do.
type Conn struct {
	cfg     Config
	handler Handler
	clean   cleaner
	ctx     context.Context // values of the dial context, never done

	ws    *websocket.Conn
	raw   net.Conn // under ws: closing it is the only cut that never waits
	hello *Hello
	buf   []byte    // reader only: of small frames
	big   *bigFrame // reader only: borrowed for the frame under way
	pace  pace      // reader only

	mu         sync.Mutex
	closed     bool // no call is taken any more
	local      bool // Close was called
	cause      error
	nextID     uint64
	pending    map[uint64]*pending
	runs       map[string]*pending // agent requests by run id, the newest of each
	queue      []*pending          // written from queue[head:]
	head       int
	queueBytes int

	wake     chan struct{}
	quit     chan struct{} // closed by the reader: the writer ends
	ended    chan struct{} // closed by the first cut: the reader waits for nothing more
	done     chan struct{} // closed last, after all callbacks
	writer   sync.WaitGroup
	started  bool
	lastSeen atomic.Int64 // unix nanoseconds of the last frame
	silence  *time.Timer
	slow     *time.Timer  // reader only: cuts the link when a large frame takes too long
	err      *ClosedError // valid after done
	shutdown *Shutdown    // reader only until done
	lastSeq  int64        // reader only
	bad      int          // reader only
}

// pending is a request that has no final answer yet. frame is dropped once it
// was written. written, accepted and dropped are guarded by Conn.mu.
type pending struct {
	id     uint64
	method string
	frame  []byte

	written bool // the writer took it: bytes may be on the wire
	dropped bool // the caller gave up before the writer took it

	on       func(AgentAnswer) // agent requests
	runID    string
	accepted bool
	hint     ErrorDetails // of its last failed model call, from its events; reader only

	answer chan callAnswer // blocking calls; capacity 1
	limit  int             // largest payload of its answer, bytes
	// decode makes of a payload what is kept of it, on the reader: the frame is
	// gone afterwards.
	decode func([]byte) (any, error)
}

type callAnswer struct {
	value any
	err   error
}

func newConn(ctx context.Context, cfg Config, h Handler) *Conn {
	return &Conn{
		cfg: cfg, handler: h, ctx: context.WithoutCancel(ctx),
		clean:   cleaner{secret: cfg.Token.Reveal()},
		buf:     make([]byte, 0, 4096),
		pace:    newPace(cfg.MaxFrame),
		nextID:  1, // the handshake's
		pending: make(map[uint64]*pending),
		runs:    make(map[string]*pending),
		wake:    make(chan struct{}, 1),
		quit:    make(chan struct{}),
		ended:   make(chan struct{}),
		done:    make(chan struct{}),
	}
}

// start runs the reader and the writer.
func (c *Conn) start() {
	c.started = true
	c.cfg.Metrics.open.Inc()
	window := max(2*c.hello.Policy.TickInterval, c.cfg.SilenceFloor)
	c.silence = time.AfterFunc(window, func() { c.watch(window) })
	c.writer.Go(c.write)
	go c.read()
}

// Hello is what the gateway said at the handshake. It must not be changed.
func (c *Conn) Hello() *Hello { return c.hello }

// Done is closed when the connection has ended, both goroutines are gone and
// every callback has returned.
func (c *Conn) Done() <-chan struct{} { return c.done }

// Err is nil while the connection lives, then a *ClosedError.
func (c *Conn) Err() error {
	select {
	case <-c.done:
		return c.err
	default:
		return nil
	}
}

// Close ends the connection and waits until Done. It says goodbye for at most
// a second. Frames that were not yet written are not written. It must not be
// called from a callback.
func (c *Conn) Close() {
	c.mu.Lock()
	c.local, c.closed = true, true
	c.mu.Unlock()
	guard := time.AfterFunc(closeGrace, func() { c.cut(ErrClosed) })
	// Its error says only that the peer was faster or silent; Err has the cause.
	_ = c.ws.Close(websocket.StatusNormalClosure, "")
	guard.Stop()
	<-c.done
}

// cut ends the link at once; the reader then does the rest. The first cause
// stays.
func (c *Conn) cut(cause error) {
	c.mu.Lock()
	if c.cause == nil && cause != nil {
		c.cause = cause
		close(c.ended)
	}
	c.mu.Unlock()
	if c.raw != nil {
		// Closing twice, or a link that is gone, is no news.
		_ = c.raw.Close()
	}
}

// watch is the silence timer: it cuts a link that brought no frame at all for
// the window, else sleeps on for the rest.
func (c *Conn) watch(window time.Duration) {
	quiet := time.Since(time.Unix(0, c.lastSeen.Load()))
	if quiet >= window {
		c.cut(errSilent)
		return
	}
	c.silence.Reset(window - quiet)
}

// enqueue takes a request into the outgoing queue, in call order. On an error
// nothing was or will be written.
func (c *Conn) enqueue(p *pending, params []byte) error {
	size := len(params) + len(p.method) + frameRoom
	if int64(size) > c.hello.Policy.MaxPayload {
		return &RPCError{Method: p.method, Code: "TOO_LARGE", Message: "the request is larger than the gateway takes; shorten the message"}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return ErrClosed
	}
	if len(c.pending) >= c.cfg.MaxPending || len(c.queue)-c.head >= c.cfg.MaxQueued || c.queueBytes+size > c.cfg.MaxQueueBytes {
		return ErrBusy
	}
	c.nextID++
	p.id = c.nextID
	trace := ""
	if p.on != nil {
		trace = traceParent(p.runID)
	}
	p.frame = appendRequest(p.id, p.method, trace, params)
	c.pending[p.id] = p
	if p.on != nil {
		c.runs[p.runID] = p
	}
	if c.head >= c.cfg.MaxQueued { // the queue never ran empty: move it back to the front
		c.queue = append(c.queue[:0], c.queue[c.head:]...)
		c.head = 0
	}
	c.queue = append(c.queue, p)
	c.queueBytes += len(p.frame)
	select {
	case c.wake <- struct{}{}:
	default:
	}
	return nil
}

// take returns the next frame to write, or nil. From here on the frame counts
// as possibly written.
func (c *Conn) take() []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	for !c.closed && c.head < len(c.queue) {
		p := c.queue[c.head]
		c.queue[c.head] = nil
		c.head++
		c.queueBytes -= len(p.frame)
		frame := p.frame
		p.frame = nil
		if p.dropped {
			continue
		}
		p.written = true
		return frame
	}
	c.queue, c.head = c.queue[:0], 0
	return nil
}

func (c *Conn) write() {
	for {
		select {
		case <-c.quit:
			return
		case <-c.wake:
		}
		for frame := c.take(); frame != nil; frame = c.take() {
			ctx, cancel := context.WithTimeout(c.ctx, c.cfg.WriteTimeout)
			err := c.ws.Write(ctx, websocket.MessageText, frame)
			cancel()
			if err != nil {
				c.cut(err)
				return
			}
			c.cfg.Metrics.out(len(frame))
		}
	}
}

func (c *Conn) read() {
	var err error
	for err == nil {
		var b []byte
		if b, err = c.readFrame(c.ctx); err == nil && b != nil {
			err = c.handle(b)
		}
		c.giveBack()
		if err == nil {
			c.wait()
		}
	}
	c.finish(err)
}

// finish runs once, on the reader, when the connection has ended.
func (c *Conn) finish(err error) {
	c.silence.Stop()
	c.mu.Lock()
	c.closed = true
	open := make([]*pending, 0, len(c.pending))
	for _, p := range c.pending {
		open = append(open, p)
	}
	clear(c.pending)
	clear(c.runs)
	c.err = c.closedError(err)
	c.queue, c.head, c.queueBytes = nil, 0, 0
	c.mu.Unlock()
	c.giveBack()
	c.cut(err)
	close(c.quit)
	c.writer.Wait()
	// The socket is closed already; this lets the library free its buffers.
	_ = c.ws.CloseNow()
	slices.SortFunc(open, func(a, b *pending) int { return cmp.Compare(a.id, b.id) })
	for _, p := range open {
		c.lose(p)
	}
	c.cfg.Metrics.open.Dec()
	c.cfg.Metrics.closes.WithLabelValues(c.err.label()).Inc()
	close(c.done)
}

// lose tells the owner of a request that no answer will come.
func (c *Conn) lose(p *pending) {
	if p.on == nil {
		p.answer <- callAnswer{err: &LostError{Method: p.method, Written: p.written, Err: c.err}}
		return
	}
	c.answered(p, AgentAnswer{Kind: AnswerLost, RunID: p.runID, Written: p.written})
}

func (c *Conn) closedError(err error) *ClosedError {
	e := &ClosedError{Code: CloseAbnormal, Shutdown: c.shutdown, Local: c.local, Err: err}
	var ce websocket.CloseError
	switch {
	case c.cause != nil:
		e.Err = c.cause
	case errors.As(err, &ce):
		e.Code, e.Reason = int(ce.Code), c.clean.text(ce.Reason)
	case errors.Is(err, websocket.ErrMessageTooBig):
		e.Code = CloseTooBig
	}
	return e
}

// label is the closed set for the metric.
func (e *ClosedError) label() string {
	switch {
	case e.Local:
		return "local"
	case errors.Is(e.Err, errSilent):
		return "silent"
	case errors.Is(e.Err, errGarbage):
		return "garbage"
	case errors.Is(e.Err, ErrBudget):
		return "budget"
	case errors.Is(e.Err, websocket.ErrMessageTooBig):
		return "too_big"
	case e.Code == CloseRestart:
		return "restart"
	case e.Code == CloseAbnormal:
		return "abnormal"
	case e.Code == ClosePolicy:
		return "policy"
	}
	return "other"
}
