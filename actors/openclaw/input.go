package openclaw

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"
	"weak"

	"github.com/coder/websocket"
)

// What a gateway sends is read into a small buffer that the connection keeps. A
// larger frame borrows one of a few large buffers that all connections share, so
// that the memory for frames is bounded whatever gateways send, and is reused:
// a frame leaves no garbage.

const (
	maxKeptBuffer = 256 << 10
	// maxBigFrames is how many connections of a process read a large frame at a
	// time. Another one waits for its turn.
	maxBigFrames = 4
	// frameTime bounds the wait for a buffer, and the reading of a large frame:
	// who sends a byte now and then must not keep it.
	frameTime = 30 * time.Second
)

// bigFrame is a large buffer.
type bigFrame struct{ b []byte }

// bigFrames are the large buffers of a process. The one that was used last is the
// next, so that there are no more than were needed at a time. One that nobody uses
// lasts until the next collection: kept for good, they would count twice in the
// size to which the heap may grow.
var bigFrames = struct {
	turn chan struct{}
	sync.Mutex
	free []weak.Pointer[bigFrame]
}{turn: make(chan struct{}, maxBigFrames)}

// readFrame reads one text frame. It aliases a buffer until giveBack. A binary
// frame is counted and yields nil.
func (c *Conn) readFrame(ctx context.Context) ([]byte, error) {
	kind, r, err := c.ws.Reader(ctx)
	if err != nil {
		return nil, err
	}
	c.giveBack()
	b, err := c.readAll(ctx, r)
	if err != nil {
		return nil, err
	}
	c.cfg.Metrics.in(len(b))
	c.pace.spend(len(b))
	c.lastSeen.Store(time.Now().UnixNano())
	if kind != websocket.MessageText {
		c.cfg.Metrics.ignore(ignoredBinary)
		return nil, nil
	}
	return b, nil
}

func (c *Conn) readAll(ctx context.Context, r io.Reader) ([]byte, error) {
	b := c.buf[:0]
	for {
		if len(b) == cap(b) {
			var err error
			if b, err = c.grow(ctx, b); err != nil {
				return nil, err
			}
		}
		n, err := r.Read(b[len(b):cap(b)])
		b = b[:len(b)+n]
		if errors.Is(err, io.EOF) {
			return b, nil
		}
		if err != nil {
			return nil, err
		}
	}
}

// grow gives the frame so far a larger buffer.
func (c *Conn) grow(ctx context.Context, b []byte) ([]byte, error) {
	if cap(b) < maxKeptBuffer {
		c.buf = append(make([]byte, 0, min(4*cap(b), maxKeptBuffer)), b...)
		return c.buf, nil
	}
	if c.big != nil { // the socket's own limit is the first to notice
		return nil, websocket.ErrMessageTooBig
	}
	var err error
	if c.big, err = c.borrow(ctx); err != nil {
		return nil, err
	}
	return append(c.big.b, b...), nil
}

// borrow waits for a large buffer and cuts the link if it is not given back in
// time.
func (c *Conn) borrow(ctx context.Context) (*bigFrame, error) {
	late := time.NewTimer(frameTime)
	defer late.Stop()
	select {
	case bigFrames.turn <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-c.ended:
		return nil, ErrClosed
	case <-late.C:
		return nil, fmt.Errorf("%w: %d large frames of others are being read", ErrBudget, maxBigFrames)
	}
	c.slow = time.AfterFunc(frameTime, func() { c.cut(errSlowFrame) })
	if f := takeFree(); f != nil && cap(f.b) > int(c.cfg.MaxFrame) {
		return f, nil
	}
	return &bigFrame{make([]byte, 0, int(c.cfg.MaxFrame)+1)}, nil
}

// takeFree is a buffer that was given back, or nil.
func takeFree() (f *bigFrame) {
	bigFrames.Lock()
	defer bigFrames.Unlock()
	for n := len(bigFrames.free); n > 0 && f == nil; n-- {
		f, bigFrames.free = bigFrames.free[n-1].Value(), bigFrames.free[:n-1]
	}
	return f
}

// giveBack returns the large buffer: nothing may alias it any more.
func (c *Conn) giveBack() {
	if c.big == nil {
		return
	}
	c.slow.Stop()
	bigFrames.Lock()
	bigFrames.free = append(bigFrames.free, weak.Make(c.big))
	bigFrames.Unlock()
	c.big = nil
	<-bigFrames.turn
}

var errSlowFrame = errors.New("a frame did not come to its end in time")

// Pace of one connection. A healthy gateway stays far below; one that floods is
// read no faster, so that the others keep their share of the processor.
const (
	paceBytes = 8 << 20 // a second
	paceBurst = 32 << 20
	frameCost = 1 << 10 // of a frame beside its bytes, in bytes
)

// pace is a token bucket in bytes.
type pace struct {
	left, burst float64
	at          time.Time
}

func newPace(maxFrame int64) pace {
	burst := float64(max(paceBurst, maxFrame))
	return pace{left: burst, burst: burst, at: time.Now()}
}

func (p *pace) spend(n int) {
	now := time.Now()
	p.left = min(p.burst, p.left+now.Sub(p.at).Seconds()*paceBytes)
	p.left -= float64(n + frameCost)
	p.at = now
}

// debt is how long nothing is to be read.
func (p *pace) debt() time.Duration {
	if p.left >= 0 {
		return 0
	}
	return time.Duration(-p.left / paceBytes * float64(time.Second))
}

// wait lets a flood wait: then its sender does, for the socket fills up.
func (c *Conn) wait() {
	d := c.pace.debt()
	if d < time.Millisecond {
		return
	}
	c.cfg.Metrics.paced.Add(d.Seconds())
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-c.ended:
	}
}
