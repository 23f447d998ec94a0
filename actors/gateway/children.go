package gateway

import (
	"strings"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/dash-fleet/dash/actors/openclaw"
	"github.com/dash-fleet/dash/actors/session"
	"github.com/dash-fleet/dash/messages"
)

// Bounds of what is known about sub-agents.
const (
	// childLimit is how long a throw-away session waits for a sub-agent of which
	// nothing is heard: its end may have been told while there was no connection.
	childLimit   = 30 * time.Minute
	childPause   = time.Minute // between two looks for those whose limit is over
	maxParents   = 4096        // sessions with sub-agents at work; more are not remembered
	maxOffspring = 64          // sub-agents of one session
	maxChildren  = 10_000      // of all sessions
)

// children are the sub-agents at work, by the key of the session that asked for
// them. A sub-agent outlives the turn that started it, and is cut in its model
// call when that session is deleted. It is pure: the time comes in.
type children struct {
	of     map[string]map[string]time.Time // session key, sub-agent's key: last heard of
	count  int
	looked time.Time // for room
}

// heard takes what a gateway tells of a sub-agent.
func (c *children) heard(e openclaw.SubAgent, now time.Time) {
	if !strings.HasPrefix(e.Parent, dashKeys) {
		return
	}
	of := c.of[e.Parent]
	if !e.Working {
		c.forget(of, e.Key)
		if len(of) == 0 {
			delete(c.of, e.Parent)
		}
		return
	}
	if of == nil {
		if len(c.of) >= maxParents && !c.room(now) {
			return
		}
		if c.of == nil {
			c.of = map[string]map[string]time.Time{}
		}
		of = map[string]time.Time{}
		c.of[e.Parent] = of
	}
	_, known := of[e.Key]
	switch {
	case known:
		of[e.Key] = now
	case len(of) < maxOffspring && c.count < maxChildren:
		of[e.Key] = now
		c.count++
	case len(of) == 0:
		delete(c.of, e.Parent)
	}
}

func (c *children) forget(of map[string]time.Time, key string) {
	if _, known := of[key]; known {
		delete(of, key)
		c.count--
	}
}

// room forgets the sub-agents whose limit is over, and reports whether that made
// room. It looks at all of them, so it does not do so at every call.
func (c *children) room(now time.Time) bool {
	if now.Sub(c.looked) < childPause {
		return false
	}
	c.looked = now
	for parent := range c.of {
		c.working(parent, now)
	}
	return len(c.of) < maxParents
}

// working reports whether a session has a sub-agent at work.
func (c *children) working(parent string, now time.Time) bool {
	of := c.of[parent]
	for key, at := range of {
		if now.Sub(at) >= childLimit {
			c.forget(of, key)
		}
	}
	if len(of) == 0 {
		delete(c.of, parent)
	}
	return len(of) > 0
}

// reset forgets all: they died with their process.
func (c *children) reset() { c.of, c.count = nil, 0 }

// subAgent takes such news, and lets the run that waits for its sub-agents look.
func (g *gateway) subAgent(ctx actor.Context, e openclaw.SubAgent) {
	g.children.heard(e, time.Now())
	if e.Working {
		return
	}
	for ref, c := range g.claims {
		if messages.SessionKey(c.task.Tenant, c.task.SessionOrOwn(), c.task.Generation) == e.Parent {
			ctx.Send(c.pid, session.RunEnded{Conn: g.conn, RunID: messages.RunID(ref.Task, ref.Claim)})
		}
	}
}

// childHeard comes from the reader of a connection.
type childHeard struct {
	inc   uint64
	child openclaw.SubAgent
}
