package openclaw

import (
	"errors"
	"fmt"
)

// handle takes one frame, on the reader. An error ends the connection.
func (c *Conn) handle(b []byte) error {
	f, err := decodeFrame(b, c.cfg.MaxDepth)
	if err != nil {
		reason := ignoredGarbage
		if errors.Is(err, errDepth) {
			reason = ignoredDepth
		}
		return c.badFrame(reason)
	}
	switch f.kind {
	case frameResponse:
		return c.handleAnswer(f)
	case frameEvent:
		c.handleEvent(f)
	default:
		return c.badFrame(ignoredGarbage)
	}
	return nil
}

func (c *Conn) badFrame(reason string) error {
	c.cfg.Metrics.ignore(reason)
	c.bad++
	if c.bad >= c.cfg.MaxBadFrames {
		return errGarbage
	}
	return nil
}

func (c *Conn) handleAnswer(f frame) error {
	id, ok := requestID(f.id)
	if !ok {
		c.cfg.Metrics.ignore(ignoredUnknownID)
		return nil
	}
	c.mu.Lock()
	p := c.pending[id]
	// An answer to a frame that was not written yet is a guess, not an answer.
	if p != nil && !p.written {
		p = nil
	}
	if p != nil && p.on == nil {
		delete(c.pending, id)
	}
	last := c.nextID
	c.mu.Unlock()
	switch {
	case p == nil && id <= last:
		c.cfg.Metrics.ignore(ignoredLate)
	case p == nil:
		c.cfg.Metrics.ignore(ignoredUnknownID)
	case p.on != nil:
		return c.handleAgentAnswer(p, f)
	default:
		a := c.callAnswer(p, f)
		p.answer <- a
		if errors.Is(a.err, ErrBudget) {
			return a.err
		}
	}
	return nil
}

func (c *Conn) handleAgentAnswer(p *pending, f frame) error {
	a := c.decodeAgentAnswer(p, f)
	if err := c.hold(a.RunID, len(a.Text)); err != nil {
		return err // its request is open still, and is lost with the connection
	}
	if a.Kind == AnswerAccepted {
		if p.accepted {
			c.cfg.Metrics.ignore(ignoredDuplicate)
			return nil
		}
		p.accepted = true
	} else {
		c.mu.Lock()
		delete(c.pending, p.id)
		if c.runs[p.runID] == p {
			delete(c.runs, p.runID)
		}
		c.mu.Unlock()
	}
	c.answered(p, a)
	return nil
}

// hold asks for room for a reply. The owner of the gateway may let the reader
// wait: then this gateway, and nobody else, waits too.
func (c *Conn) hold(runID string, size int) error {
	if c.cfg.Hold == nil || size <= FreeText {
		return nil
	}
	if err := c.cfg.Hold(runID, size); err != nil {
		return fmt.Errorf("%w: %w", ErrBudget, err)
	}
	return nil
}

func (c *Conn) answered(p *pending, a AgentAnswer) {
	c.cfg.Metrics.answers.WithLabelValues(a.Kind.String()).Inc()
	p.on(a)
}
