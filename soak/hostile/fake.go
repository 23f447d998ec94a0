// Package hostile attacks a node from the side of its gateways: a fake gateway
// that speaks the real protocol and does in each of its modes something that no
// honest one does, and a run that measures what it costs the node and the other
// gateways. It looks at Dash from outside only.
package hostile

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/coder/websocket"
)

// Token is what clients of the fake give; it takes any.
const Token = "hostile-token-0123456789"

// Fake is a gateway that obeys its mode. Its connections outlive a change of it.
type Fake struct {
	srv *http.Server
	url string
	// Mark is in every text that the fake invents: it must appear nowhere else.
	Mark string

	mu      sync.Mutex
	mode    Mode
	changed chan struct{} // closed by the next change of the mode
	foreign []string      // run ids of other gateways
	conns   map[*peer]struct{}
	boots   int
	counts  Counts
}

// Counts is what happened at the fake so far.
type Counts struct {
	Connects, Requests, Runs, Frames int
	Bytes                            int64
}

// NewFake listens on a free port of this machine.
func NewFake(mark string) (*Fake, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("listen for the hostile gateway: %w", err)
	}
	f := &Fake{url: "ws://" + l.Addr().String(), Mark: mark, mode: Honest, changed: make(chan struct{}), conns: map[*peer]struct{}{}}
	f.srv = &http.Server{Handler: http.HandlerFunc(f.serve), ReadHeaderTimeout: 10 * time.Second}
	go func() { _ = f.srv.Serve(l) }() // ends with Close
	return f, nil
}

// URL is the address for Dash.
func (f *Fake) URL() string { return f.url }

// Close ends the fake and its connections.
func (f *Fake) Close() error {
	err := f.srv.Close()
	f.Cut()
	return err
}

// Set changes the mode. A mode that begins with the handshake cuts what is open.
func (f *Fake) Set(m Mode) {
	f.mu.Lock()
	f.mode = m
	close(f.changed)
	f.changed = make(chan struct{})
	f.mu.Unlock()
	if m.AtConnect {
		f.Cut()
	}
}

// Foreign tells the fake run ids of tasks at other gateways.
func (f *Fake) Foreign(ids []string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.foreign = ids
}

// Counts returns what happened so far.
func (f *Fake) Counts() Counts {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.counts
}

// Cut ends all connections without a word.
func (f *Fake) Cut() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for p := range f.conns {
		p.cancel()
	}
}

func (f *Fake) now() (Mode, <-chan struct{}) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.mode, f.changed
}

// peer is one connection.
type peer struct {
	f      *Fake
	ws     *websocket.Conn
	ctx    context.Context
	cancel context.CancelFunc
	write  sync.Mutex

	mu   sync.Mutex
	runs []run
}

type run struct{ id, run string }

type request struct {
	ID     string          `json:"id"`
	Method string          `json:"method"`
	Params json.RawMessage `json:"params"`
}

func (f *Fake) serve(w http.ResponseWriter, r *http.Request) {
	ws, err := websocket.Accept(w, r, nil)
	if err != nil {
		return
	}
	ws.SetReadLimit(32 << 20)
	ctx, cancel := context.WithCancel(context.Background())
	p := &peer{f: f, ws: ws, ctx: ctx, cancel: cancel}
	f.mu.Lock()
	f.conns[p] = struct{}{}
	f.counts.Connects++
	f.mu.Unlock()
	defer func() {
		cancel()
		_ = ws.CloseNow() // the client may have been first
		f.mu.Lock()
		delete(f.conns, p)
		f.mu.Unlock()
	}()
	if p.handshake() {
		go p.push()
		p.answerAll()
	}
}

// send writes one frame; false: the connection has ended.
func (p *peer) send(frame string) bool { return p.make(func() string { return frame }) }

// make builds a frame when its turn has come and sends it: hundreds of large
// ones that wait would cost the attacker, in whose process the neighbours'
// clients are, more than the node.
func (p *peer) make(build func() string) bool {
	p.write.Lock()
	defer p.write.Unlock()
	ctx, cancel := context.WithTimeout(p.ctx, 2*time.Minute)
	defer cancel()
	frame := build()
	if p.ws.Write(ctx, websocket.MessageText, []byte(frame)) != nil {
		p.cancel()
		return false
	}
	p.f.mu.Lock()
	p.f.counts.Frames++
	p.f.counts.Bytes += int64(len(frame))
	p.f.mu.Unlock()
	return true
}

func (p *peer) handshake() bool {
	mode, changed := p.f.now()
	if mode.Handshake != nil {
		mode.Handshake(p, changed)
		return false
	}
	if !p.send(`{"type":"event","event":"connect.challenge","payload":{"nonce":"n","ts":1}}`) {
		return false
	}
	r, ok := p.receive()
	if !ok {
		return false
	}
	p.f.mu.Lock()
	p.f.boots++
	boot := p.f.boots
	p.f.mu.Unlock()
	hello := honestHello(boot)
	if mode.Hello != nil {
		hello = mode.Hello(boot)
	}
	return p.send(result(r.ID, hello))
}

func (p *peer) receive() (request, bool) {
	var r request
	_, b, err := p.ws.Read(p.ctx)
	if err != nil || json.Unmarshal(b, &r) != nil {
		return r, false
	}
	p.f.mu.Lock()
	p.f.counts.Requests++
	p.f.mu.Unlock()
	return r, true
}

// answerAll answers requests as the mode of the moment says.
func (p *peer) answerAll() {
	for {
		r, ok := p.receive()
		if !ok {
			return
		}
		mode, _ := p.f.now()
		if r.Method == "agent" {
			p.took(r, mode)
			continue
		}
		if mode.Answer != nil {
			if frame := mode.Answer(p, r); frame != "" {
				if frame != silent && !p.send(frame) {
					return
				}
				continue
			}
		}
		if !p.send(honest(p, r)) {
			return
		}
	}
}

// took takes a run, and answers it as the mode says.
func (p *peer) took(r request, mode Mode) {
	var params struct {
		Key string `json:"idempotencyKey"`
	}
	if json.Unmarshal(r.Params, &params) != nil {
		return
	}
	one := run{id: r.ID, run: params.Key}
	p.mu.Lock()
	p.runs = append(p.runs, one)
	if len(p.runs) > 4096 {
		p.runs = p.runs[1:]
	}
	p.mu.Unlock()
	p.f.mu.Lock()
	p.f.counts.Runs++
	p.f.mu.Unlock()
	p.send(result(r.ID, fmt.Sprintf(`{"runId":%q,"status":"accepted"}`, params.Key)))
	if mode.Run != nil {
		go mode.Run(p, one)
		return
	}
	p.send(final(one, p.f.Mark+" an honest answer"))
}

// push sends what the mode sends unasked, until the connection ends.
func (p *peer) push() {
	for p.ctx.Err() == nil {
		mode, changed := p.f.now()
		if mode.Push != nil {
			mode.Push(p, changed)
			continue
		}
		select {
		case <-changed:
		case <-p.ctx.Done():
		case <-time.After(10 * time.Second):
			p.send(`{"type":"event","event":"tick","payload":{}}`)
		}
	}
}

// open are the runs that the connection has taken.
func (p *peer) open() []run {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]run(nil), p.runs...)
}

// stop reports whether the mode has changed or the connection ended.
func (p *peer) stop(changed <-chan struct{}) bool {
	select {
	case <-changed:
		return true
	case <-p.ctx.Done():
		return true
	default:
		return false
	}
}

// pause waits; false: the mode has changed or the connection ended.
func (p *peer) pause(d time.Duration, changed <-chan struct{}) bool {
	select {
	case <-time.After(d):
		return true
	case <-changed:
	case <-p.ctx.Done():
	}
	return false
}
