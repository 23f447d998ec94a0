package openclawtest

import (
	"time"
)

const (
	dropBefore = iota // the request is never handled
	dropAfter         // taken, no answer
	dropFinal         // accepted is answered, the final is not
	dropKinds
)

// agent starts a turn: `accepted` now, the final result later under the same id.
func (c *conn) agent(id string, p params) (any, *rpcError) {
	g, l := c.g, c.l
	key, err := checkedKey("agent", p.str("sessionKey"))
	if err != nil {
		return nil, err
	}
	if mode := p.str("promptMode"); mode == "none" && !p.boolean("modelRun") {
		return nil, invalid("invalid agent params: promptMode \"none\" requires modelRun")
	}
	runID := p.str("idempotencyKey")
	if r := l.runs[runID]; r != nil {
		if r.state != stateDone {
			return map[string]any{"runId": r.id, "sessionKey": r.key, "status": "in_flight"}, nil
		}
		c.send(g.finalFrame(id, r))
		return deferred()
	}
	drop := -1
	if g.hit(g.faults.DropRate) {
		drop = g.rng.IntN(dropKinds)
	}
	if drop == dropBefore {
		c.cut()
		return deferred()
	}
	if l.open >= maxQueuedRuns {
		return nil, &rpcError{Code: "UNAVAILABLE", Message: "agent unavailable: too many queued runs", Retryable: true, RetryAfterMs: 1000, Details: map[string]any{"method": "agent", "reason": "overloaded"}}
	}
	r := g.accept(l, submission{
		id: runID, key: key, message: p.str("message"), model: p.str("model"), via: viaAgent, bare: p.boolean("modelRun"),
		timeout: time.Duration(p.integer("timeout", 0)) * time.Second, conn: c, reqID: id,
	})
	r.dropFinal = drop == dropFinal
	if drop == dropAfter {
		c.cut()
	} else {
		c.send(okFrame(id, acceptedPayload{r.id, r.key, "main", "accepted", r.accepted}))
	}
	g.place(l, r)
	return deferred()
}

type acceptedPayload struct {
	RunID      string `json:"runId"`
	SessionKey string `json:"sessionKey"`
	AgentID    string `json:"agentId"`
	Status     string `json:"status"`
	AcceptedAt int64  `json:"acceptedAt"`
}

func checkedKey(method, key string) (string, *rpcError) {
	full := expandKey(key)
	if len(full) > maxSessionKey {
		return "", invalid("invalid " + method + " params: at /sessionKey: must NOT have more than 512 characters")
	}
	return full, nil
}

// respond sends the final answer to whoever asked, with the faults in force.
func (g *Gateway) respond(l *life, r *run) {
	c := r.conn
	if r.via != viaAgent || c == nil {
		return
	}
	if r.dropFinal {
		c.cut()
		return
	}
	id := r.reqID
	if g.hit(g.faults.WrongIDRate) {
		id = "stranger-" + id
	}
	if g.hit(g.faults.GarbageRate) {
		c.garbage(r)
	}
	if g.hit(g.faults.HugeFrameRate) {
		c.huge(g.faults.HugeFrameBytes)
	}
	frame := g.finalFrame(id, r)
	if g.hit(g.faults.LateRate) {
		g.after(l, seconds(g.faults.LateSeconds), func() { c.send(frame) })
		return
	}
	c.send(frame)
	if g.hit(g.faults.DuplicateRate) {
		c.send(frame)
	}
}
