package openclaw

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
)

// Caller is the one method that Teardown needs. A Conn is one.
type Caller interface {
	Call(ctx context.Context, method string, params, out any) error
}

// Call sends one request and waits for its answer. params is encoded as JSON;
// nil means an empty object. out is filled from the payload: a pointer to
// decode into, a *json.RawMessage to take it as it is, or nil to ignore it.
//
// Without a deadline in ctx, Config.CallTimeout applies. Errors: ErrBusy and
// ErrClosed (nothing written), *RPCError (the gateway said no), *AnswerError
// (it said something unusable), *LostError (no answer; it says whether the
// request may have been written).
func (c *Conn) Call(ctx context.Context, method string, params, out any) error {
	payload, err := c.roundTrip(ctx, method, params)
	if err != nil || out == nil {
		return err
	}
	if missing(payload) {
		return &AnswerError{Method: method, Problem: errNoPayload.Error()}
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

func (c *Conn) roundTrip(ctx context.Context, method string, params any) ([]byte, error) {
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
	p := &pending{method: method, answer: make(chan callAnswer, 1)}
	if err := c.enqueue(p, encoded); err != nil {
		return nil, err
	}
	select {
	case a := <-p.answer:
		return a.payload, a.err
	case <-ctx.Done():
		return c.giveUp(p, ctx.Err())
	}
}

// giveUp takes a call back. If the writer has not taken the frame, it never
// will.
func (c *Conn) giveUp(p *pending, cause error) ([]byte, error) {
	c.mu.Lock()
	delete(c.pending, p.id)
	p.dropped = true
	written := p.written
	c.mu.Unlock()
	select {
	case a := <-p.answer: // it came in the meantime
		return a.payload, a.err
	default:
		return nil, &LostError{Method: p.method, Written: written, Err: cause}
	}
}

// callAnswer runs on the reader; the payload leaves the read buffer.
func (c *Conn) callAnswer(method string, f frame) callAnswer {
	if !f.ok {
		return callAnswer{err: decodeError(method, f.err, c.cfg.MaxDepth, c.clean)}
	}
	return callAnswer{payload: bytes.Clone(f.payload)}
}
