package openclaw

import "errors"

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
		c.handleAnswer(f)
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

func (c *Conn) handleAnswer(f frame) {
	id, ok := requestID(f.id)
	if !ok {
		c.cfg.Metrics.ignore(ignoredUnknownID)
		return
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
		c.handleAgentAnswer(p, f)
	default:
		p.answer <- c.callAnswer(p.method, f)
	}
}

func (c *Conn) handleAgentAnswer(p *pending, f frame) {
	a := c.decodeAgentAnswer(p, f)
	if a.Kind == AnswerAccepted {
		if p.accepted {
			c.cfg.Metrics.ignore(ignoredDuplicate)
			return
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
}

func (c *Conn) answered(p *pending, a AgentAnswer) {
	c.cfg.Metrics.answers.WithLabelValues(a.Kind.String()).Inc()
	p.on(a)
}
