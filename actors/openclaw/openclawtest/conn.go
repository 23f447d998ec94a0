package openclawtest

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/coder/websocket"
	"github.com/google/uuid"
)

// conn is one WebSocket. Fields below "guarded by g.mu" belong to the gateway,
// the queue has its own lock and is never held while taking g.mu.
type conn struct {
	g  *Gateway
	l  *life
	ws *websocket.Conn
	bc *batchConn
	id string

	// guarded by g.mu
	ready    bool
	scopes   scopeSet
	device   string
	nonce    string
	origin   bool
	silence  *time.Timer
	waits    map[*wait]struct{}
	writes   map[string]*writeWindow
	pingBusy bool

	qmu    sync.Mutex
	queue  []outFrame
	deltas map[*run]int // place in queue of a run's unsent delta
	qbytes int
	closed bool // no more frames are taken
	wake   chan struct{}
}

// outFrame is one frame waiting to be sent; exactly one of its parts is set.
type outFrame struct {
	res   []byte // complete frame
	event []byte // frame without seq and closing brace
	delta *delta
	raw   *rawFrame
	close *closing
}

type rawFrame struct {
	kind websocket.MessageType
	data []byte
}

type closing struct {
	code   websocket.StatusCode
	reason string
}

// serveSocket runs one WebSocket until it ends; it is the socket's reader.
func (g *Gateway) serveSocket(l *life, w http.ResponseWriter, r *http.Request) {
	bc := batchOf(r.Context())
	ws, err := websocket.Accept(w, r, &websocket.AcceptOptions{InsecureSkipVerify: true})
	if err != nil || bc == nil {
		return // Accept has answered with the HTTP status
	}
	c := &conn{
		g: g, l: l, ws: ws, bc: bc, id: uuid.NewString(), nonce: uuid.NewString(),
		origin: r.Header.Get("Origin") != "", waits: map[*wait]struct{}{}, deltas: map[*run]int{}, wake: make(chan struct{}, 1),
	}
	ws.SetReadLimit(preAuthLimit)
	if !g.attach(c) {
		_ = bc.Close()
		_ = ws.CloseNow()
		return
	}
	written := make(chan struct{})
	go func() { defer close(written); c.writeLoop() }()
	c.readLoop()
	g.detach(c)
	c.stop()
	<-written
	_ = ws.CloseNow()
}

func (g *Gateway) attach(c *conn) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if c.l.dead {
		return false
	}
	c.l.conns[c] = struct{}{}
	c.silence = time.AfterFunc(g.scaledMin(15*time.Second, 5*time.Second), func() { c.close(websocket.StatusNormalClosure, "") })
	c.sendEvent(eventHead("connect.challenge", map[string]any{
		"nonce": c.nonce, "ts": nowMs(), "capabilities": []string{"model-catalog-snapshot"},
	}))
	return true
}

func (g *Gateway) detach(c *conn) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(c.l.conns, c)
	c.silence.Stop()
	for w := range c.waits {
		w.drop()
	}
	c.ready = false
}

// readLoop reads until the socket ends. After a close was sent it goes on, so
// that the close handshake can finish, but nothing is handled any more.
func (c *conn) readLoop() {
	var buf bytes.Buffer
	for {
		kind, r, err := c.ws.Reader(context.Background())
		if err != nil {
			return
		}
		buf.Reset()
		if _, err := buf.ReadFrom(r); err != nil {
			if errors.Is(err, websocket.ErrMessageTooBig) {
				c.linger()
			}
			return
		}
		c.handle(kind, buf.Bytes())
		if buf.Cap() > 1<<20 {
			buf = bytes.Buffer{}
		}
	}
}

// linger swallows the rest of a frame that was too big. Closing with it unread
// would reset the connection and the client would never see close 1009.
func (c *conn) linger() {
	c.qmu.Lock()
	c.closed = true
	c.qmu.Unlock()
	if c.bc.SetReadDeadline(time.Now().Add(5*time.Second)) != nil {
		return
	}
	// It ends with the client's close, at the deadline or at the bound: each is fine.
	_, _ = io.CopyN(io.Discard, c.bc.Conn, 2*maxPayload)
}

func (c *conn) handle(kind websocket.MessageType, data []byte) {
	// Decoded before the lock: one client's large frame must not hold up others.
	req, err := decodeRequest(data)
	if kind == websocket.MessageBinary {
		err = errNotJSON
	}
	g := c.g
	g.mu.Lock()
	defer g.mu.Unlock()
	if c.l.dead || c.isClosed() {
		return
	}
	if !c.ready {
		c.handshake(req, err)
		return
	}
	switch err {
	case nil:
		c.dispatch(req)
	case errNotRequest:
		c.send(errFrame("invalid", invalid("invalid request frame")))
	}
}

func (c *conn) isClosed() bool {
	c.qmu.Lock()
	defer c.qmu.Unlock()
	return c.closed
}

func (c *conn) send(res []byte)        { c.push(outFrame{res: res}, len(res)) }
func (c *conn) sendEvent(event []byte) { c.push(outFrame{event: event}, len(event)) }

// close sends what is queued, then the close frame.
func (c *conn) close(code websocket.StatusCode, reason string) {
	c.qmu.Lock()
	defer c.qmu.Unlock()
	if c.closed {
		return
	}
	c.queue = append(c.queue, outFrame{close: &closing{code, reason}})
	c.closed = true
	c.poke()
}

// cut ends the socket without a word, as a crash does.
func (c *conn) cut() {
	c.stop()
	_ = c.bc.Close()
}

// stop ends the writer; frames not sent yet are lost.
func (c *conn) stop() {
	c.qmu.Lock()
	defer c.qmu.Unlock()
	c.queue, c.qbytes, c.closed = nil, 0, true
	clear(c.deltas)
	c.queue = append(c.queue, outFrame{})
	c.poke()
}

func (c *conn) poke() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

func (c *conn) push(f outFrame, size int) {
	c.qmu.Lock()
	defer c.qmu.Unlock()
	if c.closed {
		return
	}
	if c.qbytes+size > maxBuffered {
		// A reader this slow is cut, as the real gateway resets it.
		c.closed = true
		c.queue, c.qbytes = []outFrame{{}}, 0
		c.poke()
		_ = c.bc.Close()
		return
	}
	if f.delta != nil {
		if at, ok := c.deltas[f.delta.run]; ok {
			old := c.queue[at].delta
			f.delta.from, f.delta.replace = old.from, old.replace || f.delta.replace
			c.queue[at] = f
			return
		}
		c.deltas[f.delta.run] = len(c.queue)
	}
	c.queue = append(c.queue, f)
	c.qbytes += size
	c.poke()
}

// writeLoop sends queued frames, all that wait in one go, until the end mark.
func (c *conn) writeLoop() {
	var seq uint64
	var scratch []byte
	for range c.wake {
		c.qmu.Lock()
		frames := c.queue
		c.queue, c.qbytes = nil, 0
		clear(c.deltas)
		c.qmu.Unlock()
		c.bc.hold()
		for _, f := range frames {
			if f.close != nil {
				c.release()
				_ = c.ws.Close(f.close.code, f.close.reason)
				_ = c.bc.Close()
				return
			}
			if f.empty() || !c.write(f, &seq, &scratch) {
				c.release()
				_ = c.bc.Close()
				return
			}
		}
		if !c.release() {
			_ = c.bc.Close()
			return
		}
	}
}

func (c *conn) release() bool { return c.bc.release() == nil }

func (c *conn) write(f outFrame, seq *uint64, scratch *[]byte) bool {
	ctx := context.Background()
	if f.raw != nil {
		return c.ws.Write(ctx, f.raw.kind, f.raw.data) == nil
	}
	if f.res != nil {
		return c.ws.Write(ctx, websocket.MessageText, f.res) == nil
	}
	events := [][]byte{f.event}
	if f.delta != nil {
		events = f.delta.render()
	}
	for _, e := range events {
		*seq++
		buf := append((*scratch)[:0], e...)
		buf = append(buf, `,"seq":`...)
		buf = strconv.AppendUint(buf, *seq, 10)
		buf = append(buf, '}')
		if cap(buf) <= 1<<20 {
			*scratch = buf
		}
		if c.ws.Write(ctx, websocket.MessageText, buf) != nil {
			return false
		}
	}
	return true
}

type batchKey struct{}

func batchContext(ctx context.Context, c net.Conn) context.Context {
	return context.WithValue(ctx, batchKey{}, c)
}

func batchOf(ctx context.Context) *batchConn {
	b, _ := ctx.Value(batchKey{}).(*batchConn)
	return b
}

func nowMs() int64 { return time.Now().UnixMilli() }

func (f outFrame) empty() bool {
	return f.res == nil && f.event == nil && f.delta == nil && f.raw == nil && f.close == nil
}
