package openclaw

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
)

// Call sends one request and waits for its answer. params is encoded as JSON;
// nil means an empty object. out is filled from the payload: a pointer to
// decode into, a *json.RawMessage to take it as it is, or nil to ignore it.
//
// Without a deadline in ctx, Config.CallTimeout applies. Errors: ErrBusy and
// ErrClosed (nothing written), *RPCError (the gateway said no), *AnswerError
// (it said something unusable), *LostError (no answer; it says whether the
// request may have been written).
func (c *Conn) Call(ctx context.Context, method string, params, out any) error {
	payload, err := ask(ctx, c, method, params, maxSmall, func(b []byte) ([]byte, error) {
		if out == nil {
			return nil, nil
		}
		if missing(b) {
			return nil, errNoPayload
		}
		return bytes.Clone(b), nil
	})
	if err != nil || out == nil {
		return err
	}
	if raw, ok := out.(*json.RawMessage); ok {
		*raw = payload
		return nil
	}
	if err := json.Unmarshal(payload, out); err != nil {
		return &AnswerError{Method: method, Problem: c.clean.text(err.Error())}
	}
	return nil
}

// maxSmall bounds the answers that are decoded as they are: a few hundred bytes
// in a healthy gateway. Those that may be larger are scanned, and what is kept
// of them is counted.
const maxSmall = 64 << 10

// ask sends one request. decode makes of the payload what is kept of it, while
// the frame is read: the payload, of at most limit bytes, is gone afterwards, so
// that a gateway holds one frame of memory at a time, however many ask.
func ask[T any](ctx context.Context, c *Conn, method string, params any, limit int, decode func([]byte) (T, error)) (T, error) {
	v, err := c.roundTrip(ctx, &pending{
		method: method, answer: make(chan callAnswer, 1), limit: limit,
		decode: func(b []byte) (any, error) { return decode(b) },
	}, params)
	if err != nil {
		var none T
		return none, err
	}
	return v.(T), nil
}

func (c *Conn) roundTrip(ctx context.Context, p *pending, params any) (any, error) {
	method := p.method
	encoded := []byte("{}")
	if params != nil {
		var err error
		if encoded, err = json.Marshal(params); err != nil {
			return nil, fmt.Errorf("gateway %s: encode params: %w", method, err)
		}
	}
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, c.cfg.CallTimeout)
		defer cancel()
	}
	if err := ctx.Err(); err != nil {
		return nil, &LostError{Method: method, Err: err}
	}
	if err := c.enqueue(p, encoded); err != nil {
		return nil, err
	}
	select {
	case a := <-p.answer:
		return a.value, a.err
	case <-ctx.Done():
		return c.giveUp(p, ctx.Err())
	}
}

// giveUp takes a call back. If the writer has not taken the frame, it never
// will.
func (c *Conn) giveUp(p *pending, cause error) (any, error) {
	c.mu.Lock()
	delete(c.pending, p.id)
	p.dropped = true
	written := p.written
	c.mu.Unlock()
	select {
	case a := <-p.answer: // it came in the meantime
		return a.value, a.err
	default:
		return nil, &LostError{Method: p.method, Written: written, Err: cause}
	}
}

// callAnswer runs on the reader; nothing of it aliases the frame.
func (c *Conn) callAnswer(p *pending, f frame) callAnswer {
	switch {
	case !f.ok:
		return callAnswer{err: decodeError(p.method, f.err, c.cfg.MaxDepth, c.clean)}
	case len(f.payload) > p.limit:
		c.cfg.Metrics.ignore(ignoredSize)
		return callAnswer{err: &AnswerError{Method: p.method, Problem: fmt.Sprintf("%d bytes; at most %d are taken", len(f.payload), p.limit)}}
	}
	v, err := p.decode(f.payload)
	switch {
	case errors.Is(err, ErrBudget):
		return callAnswer{err: &LostError{Method: p.method, Written: true, Err: err}}
	case err != nil:
		return callAnswer{err: &AnswerError{Method: p.method, Problem: c.clean.text(err.Error())}}
	}
	return callAnswer{value: v}
}
