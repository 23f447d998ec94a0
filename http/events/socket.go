package events

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/coder/websocket"

	"github.com/dash-fleet/dash/http/auth"
	"github.com/dash-fleet/dash/messages"
)

// Close codes of the application.
const (
	// CloseCredential: the credential is missing, wrong or has ended.
	CloseCredential websocket.StatusCode = 4401
	// CloseForbidden: the credential lacks the permission.
	CloseForbidden websocket.StatusCode = 4403
	// CloseSlow: the watcher did not take its events in time; it may resume with since.
	CloseSlow websocket.StatusCode = 4408
)

const (
	maxFrame  = 16 << 10
	maxTopics = 64
	// closeIn is what a write under way gets when its connection is to end.
	closeIn = time.Second
)

var (
	errFrame  = errors.New("not understood")
	errNotNow = errors.New("not now")
)

// frame is what a client sends.
type frame struct {
	Type   string   `json:"type"`
	Token  string   `json:"token"`
	Topics []string `json:"topics"`
	Since  *int64   `json:"since"`
}

// ServeSocket streams the log over a WebSocket until ctx ends, the client
// leaves, is cut, or its credential ends.
func (s *Server) ServeSocket(ctx context.Context, w http.ResponseWriter, r *http.Request, v Viewer, topics Topics, since *int64) {
	conn, err := websocket.Accept(w, r, nil)
	if err != nil {
		s.count(ctx, fmt.Errorf("%w: %w", errLeft, err)) // Accept has answered
		return
	}
	conn.SetReadLimit(maxFrame)
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	k := &socket{s: s, conn: conn, v: v, topics: topics, poke: make(chan struct{}, 1), tokens: make(chan string, 1), done: make(chan struct{})}
	err = k.run(ctx, cancel, since)
	if cause := context.Cause(ctx); ctx.Err() != nil && cause != nil && !errors.Is(cause, context.Canceled) {
		err = cause
	}
	k.close(err)
	<-k.done
	s.count(ctx, err)
}

// socket is one WebSocket client. run is its goroutine; two more read and
// ping, ServeSocket waits for both.
type socket struct {
	s      *Server
	conn   *websocket.Conn
	v      Viewer
	topics Topics
	permit *permit       // nil before it is known who it is
	poke   chan struct{} // there is a wish
	tokens chan string   // the credential of the first frame, once
	done   chan struct{} // closed when nothing reads any more

	mu   sync.Mutex
	wish *frame // the subscribe that is not taken up yet
}

// run must end with close: it ends the goroutine that reads.
func (k *socket) run(ctx context.Context, cancel context.CancelCauseFunc, since *int64) error {
	// The library drops the connection, without a code, when the context of a
	// read ends: this one does not end, close ends the read.
	endless := context.WithoutCancel(ctx)
	go func() { defer close(k.done); k.read(endless, cancel) }()
	if k.v.Principal == nil {
		if err := k.authenticate(ctx); err != nil {
			return err
		}
	}
	ctx, k.permit = k.s.permit(ctx, k.v)
	defer k.permit.close()
	pinged := make(chan struct{})
	go func() { defer close(pinged); k.ping(ctx, cancel) }()
	err := k.permit.reason(ctx, k.stream(ctx, since))
	cancel(err)
	k.permit.close() // ends the ping
	<-pinged
	return err
}

// authenticate takes the first frame.
func (k *socket) authenticate(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, k.s.cfg.AuthTimeout)
	defer cancel()
	var token string
	select {
	case token = <-k.tokens:
	case <-ctx.Done():
		if errors.Is(ctx.Err(), context.DeadlineExceeded) {
			return errCredential
		}
		return ctx.Err()
	}
	p, err := k.s.auth.Authenticate(ctx, token)
	switch code := messages.CodeOf(err); {
	case err != nil && code == messages.CodeUnauthorized:
		return errCredential
	case err != nil:
		return err
	}
	if k.v.Admit != nil {
		if err := k.v.Admit(ctx, p); err != nil {
			return fmt.Errorf("%w: %w", errNotNow, err)
		}
	}
	if err := auth.Need(k.v.Need).Allows(p); err != nil {
		return err
	}
	k.v.Token, k.v.Principal = token, p
	return nil
}

// frame reads and checks one frame of the client.
func (k *socket) frame(ctx context.Context) (frame, error) {
	typ, b, err := k.conn.Read(ctx)
	if err != nil {
		return frame{}, fmt.Errorf("%w: %w", errLeft, err)
	}
	if typ != websocket.MessageText {
		return frame{}, fmt.Errorf("%w: frames are JSON text", errFrame)
	}
	return parseFrame(b)
}

func parseFrame(b []byte) (f frame, err error) {
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&f); err != nil || dec.More() {
		return f, fmt.Errorf("%w: a frame is {\"type\":\"auth\",…} or {\"type\":\"subscribe\",…}", errFrame)
	}
	switch f.Type {
	case "auth":
		return f, nil
	case "subscribe":
		return f, checkSubscribe(f)
	}
	return f, fmt.Errorf("%w: type must be auth or subscribe", errFrame)
}

func checkSubscribe(f frame) error {
	if len(f.Topics) > maxTopics {
		return fmt.Errorf("%w: more than %d topics", errFrame, maxTopics)
	}
	if f.Since != nil && *f.Since < 0 {
		return fmt.Errorf("%w: since is negative", errFrame)
	}
	for _, t := range f.Topics {
		if !ValidTopic(t) {
			return fmt.Errorf("%w: %.40q is no topic: use * or task.* or task.<id>.* or task.*.state", errFrame, t)
		}
	}
	return nil
}

// read hands the client's frames to the stream and notices when it leaves.
func (k *socket) read(ctx context.Context, cancel context.CancelCauseFunc) {
	known := k.v.Principal != nil
	for {
		f, err := k.frame(ctx)
		switch {
		case err != nil:
		case !known && f.Type == "auth" && f.Token != "":
			known = true
			k.tokens <- f.Token
			continue
		case !known:
			err = errCredential
		case f.Type == "auth":
			err = fmt.Errorf("%w: this connection is authenticated already", errFrame)
		}
		if err != nil {
			cancel(err)
			if !errors.Is(err, errLeft) {
				// The peer's close frame still has to be read.
				_, _, _ = k.conn.Read(ctx)
			}
			return
		}
		k.want(f)
	}
}

// want keeps the client's newest subscribe and wakes the stream.
func (k *socket) want(f frame) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.wish != nil && f.Since == nil {
		f.Since = k.wish.Since
	}
	k.wish = &f
	select {
	case k.poke <- struct{}{}:
	default: // it is awake already
	}
}

// ping notices a peer that is gone without a word.
func (k *socket) ping(ctx context.Context, cancel context.CancelCauseFunc) {
	t := time.NewTicker(k.s.cfg.Heartbeat)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		// Not ctx: were it to end in the middle of the write, the library would
		// drop the connection and no close code could be sent.
		pctx, stop := context.WithTimeout(context.WithoutCancel(ctx), k.s.cfg.WriteTimeout)
		undo := context.AfterFunc(ctx, func() { time.AfterFunc(closeIn, stop) })
		err := k.conn.Ping(pctx)
		undo()
		stop()
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			cancel(fmt.Errorf("%w: no answer to a ping", errLeft))
			return
		}
	}
}

// stream sends events. It begins with the first subscribe, or without one
// after a short while.
func (k *socket) stream(ctx context.Context, since *int64) error {
	from, err := k.s.start(ctx, since)
	if err != nil {
		return err
	}
	f := k.s.follower(from)
	f.pay = k.v.pay
	defer f.close()
	select {
	case <-k.poke:
		k.subscribe(f)
	case <-time.After(k.s.cfg.SubscribeIn):
	case <-ctx.Done():
		return ctx.Err()
	}
	for {
		if err := k.subscribed(ctx, f.last); err != nil {
			return err
		}
		if err := k.pump(ctx, f); err != nil {
			return err
		}
		if k.v.Count != nil { // the first subscribe came with the connection
			if err := k.v.Count(ctx, k.v.Principal); err != nil {
				return fmt.Errorf("%w: %w", errNotNow, err)
			}
		}
	}
}

// pump sends events until the client subscribes anew.
func (k *socket) pump(ctx context.Context, f *follower) error {
	tick := time.NewTicker(k.s.cfg.Heartbeat)
	defer tick.Stop()
	for {
		if k.subscribe(f) {
			return nil
		}
		events, g, err := f.next(ctx, tick.C, k.poke)
		if err != nil {
			return err
		}
		if g != nil {
			b, err := encodeGap(g.from, g.to)
			if err != nil {
				return err
			}
			if err := k.send(ctx, b); err != nil {
				return err
			}
		}
		if g == nil && len(events) == 0 && k.subscribe(f) {
			return nil
		}
		sent := g != nil
		for _, e := range events {
			if !k.topics.Match(e) || !visible(k.v.Principal, e) {
				continue
			}
			b, err := encodeEvent(e, k.v.Principal)
			if err != nil {
				return err
			}
			if err := k.send(ctx, b); err != nil {
				return err
			}
			sent = true
		}
		if !sent && (len(events) == 0 || len(events) == pageSize) {
			if err := k.position(ctx, f.last); err != nil {
				return err
			}
		}
	}
}

// subscribe takes up what the client asked for last; false when it asked nothing.
func (k *socket) subscribe(f *follower) bool {
	k.mu.Lock()
	fr := k.wish
	k.wish = nil
	select {
	case <-k.poke: // it is this wish's
	default:
	}
	k.mu.Unlock()
	if fr == nil {
		return false
	}
	k.topics = ParseTopics(fr.Topics)
	if fr.Since != nil {
		f.seek(*fr.Since)
	}
	return true
}

// send writes one message; a client that does not take it in time is cut.
func (k *socket) send(ctx context.Context, b []byte) error {
	if err := k.permit.confirmed(ctx); err != nil {
		return err
	}
	// Not ctx: were it to end in the middle of a write, no close code could be sent.
	wctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), k.s.cfg.WriteTimeout)
	defer cancel()
	defer context.AfterFunc(ctx, func() { time.AfterFunc(closeIn, cancel) })()
	defer k.permit.whenEnded(ctx, cancel)()
	err := k.conn.Write(wctx, websocket.MessageText, b)
	switch {
	case err == nil:
		return nil
	case wctx.Err() != nil:
		return errSlow
	}
	return fmt.Errorf("%w: %w", errLeft, err)
}

// close says why, in a code and in words.
func (k *socket) close(err error) {
	code, reason := websocket.StatusGoingAway, "this node is stopping or the connection ends"
	switch {
	case errors.Is(err, errCredential):
		code, reason = CloseCredential, "the credential is missing, wrong or has ended"
	case errors.Is(err, errSlow):
		code, reason = CloseSlow, "too slow: resume with since"
	case errors.Is(err, errFrame):
		code, reason = websocket.StatusPolicyViolation, err.Error()
	case messages.CodeOf(err) == messages.CodeForbidden:
		code, reason = CloseForbidden, "the credential lacks the permission events:read"
	case errors.Is(err, errNotNow), errors.Is(err, ErrCrowded):
		code, reason = websocket.StatusTryAgainLater, err.Error()
	case errors.Is(err, errLeft):
		_ = k.conn.CloseNow()
		return
	case errors.Is(err, errUnchecked):
		code, reason = websocket.StatusTryAgainLater, "the credential cannot be checked: resume with since"
	case err != nil && !errors.Is(err, context.Canceled):
		code, reason = websocket.StatusTryAgainLater, "the event log does not answer: resume with since"
	}
	if k.v.Principal == nil {
		defer time.AfterFunc(closeIn, func() { _ = k.conn.CloseNow() }).Stop() // whoever it is need not answer
	}
	if len(reason) > 120 {
		reason = strings.ToValidUTF8(reason[:120], "")
	}
	_ = k.conn.Close(code, reason) // the client may be gone already
}
