package session

import (
	"fmt"
	"slices"

	"github.com/dash-fleet/dash/messages"
)

// fairness says whether a step must happen in the end. Liveness may count on
// fair steps only; slow ones are time limits of last resort.
type fairness uint8

const (
	unfair fairness = iota // a fault, or somebody's wish
	fair
	slow
)

type emitter func(label string, f fairness, w *world, bad string)

// next emits every world that one step leads to.
func (w *world) next(emit emitter) {
	step := func(label string, f fairness, do func(c *world) string) {
		c := w.clone()
		bad := do(c)
		emit(label, f, c, bad)
	}
	for gi := range w.cfg.gateways {
		w.gatewaySteps(gi, step)
	}
	if w.gws[otherHost].up || w.gws[otherHost].boot > 1 {
		w.gatewaySteps(otherHost, step)
	}
	for i := range w.owners {
		if w.owners[i].alive {
			w.ownerSteps(i, step)
		}
	}
	for k, f := range w.orphans {
		if g := &w.gws[f.gw]; g.up && g.boot == f.boot {
			step("late frame", fair, func(c *world) string {
				c.orphans = append(c.orphans[:k], c.orphans[k+1:]...)
				_, bad := c.handle(f.gw, f.f, nobody, 0)
				return bad
			})
		}
	}
	w.poolSteps(step)
}

// unseen reports whether the process has a re-run that took the task's text,
// and the owner of the gateway did not see it, or did not write it before another
// owner takes over. Where such a process ends, too, nothing tells that the next
// re-run has the text no more: a limit of what is searched, and of what can be known.
func (w *world) unseen(gi int) bool {
	g := &w.gws[gi]
	if !slices.ContainsFunc(g.turns, func(t turn) bool { return t.took && t.state == tActive }) {
		return false
	}
	for i := range w.owners {
		o := &w.owners[i]
		if o.gw == gi && w.current(i) && o.run != nil && (o.run.again != "" && w.left.takeovers == 0 || w.row.ObservedRunID != "") {
			return false
		}
	}
	return true
}

type stepper func(label string, f fairness, do func(c *world) string)

func (w *world) gatewaySteps(gi int, step stepper) {
	g := &w.gws[gi]
	name := fmt.Sprintf("g%d ", gi)
	if !g.up {
		step(name+"boots", fair, func(c *world) string {
			c.gws[gi].up = true
			c.gws[gi].boot++
			return ""
		})
		return
	}
	if w.left.crashes > 0 && !w.unseen(gi) {
		step(name+"crashes", unfair, func(c *world) string {
			c.left.crashes--
			c.blame(gi)
			return c.crash(gi, false)
		})
		if w.left.dropInput > 0 {
			step(name+"crashes, input not durable", unfair, func(c *world) string {
				c.left.crashes--
				c.blame(gi)
				return c.crash(gi, true)
			})
		}
	}
	if w.left.stops > 0 && !w.unseen(gi) {
		step(name+"is stopped by Dash", unfair, func(c *world) string {
			c.left.stops--
			c.gws[gi].ended = g.boot
			return c.crash(gi, false)
		})
	}
	if w.left.refusals > 0 && !g.refusing {
		step(name+"refuses", unfair, func(c *world) string {
			c.left.refusals--
			c.gws[gi].refusing = true
			return ""
		})
	}
	if g.refusing {
		step(name+"accepts again", fair, func(c *world) string { c.gws[gi].refusing = false; return "" })
	}
	if !g.scanned {
		step(name+"scans", fair, func(c *world) string { c.gws[gi].scanned = true; return "" })
		step(name+"scans and gives up", unfair, func(c *world) string {
			c.gws[gi].scanned = true
			for i, t := range c.gws[gi].turns {
				if t.state == tDying {
					c.gws[gi].turns[i].state = tDead
				}
			}
			return ""
		})
	}
	for i := range g.turns {
		w.turnSteps(gi, i, name, step)
	}
}

func (w *world) turnSteps(gi, i int, name string, step stepper) {
	g := &w.gws[gi]
	t := g.turns[i]
	end := func(label string, f fairness, s turnState, cost func(c *world)) {
		step(name+label, f, func(c *world) string {
			cost(c)
			c.gws[gi].turns[i].state = s
			c.tell(gi, i)
			return ""
		})
	}
	switch t.state {
	case tQueued:
		for _, u := range g.turns {
			if u.gen == t.gen && u.state == tActive {
				return // one turn of a session at a time
			}
		}
		if w.left.offs > 0 {
			end("finds its provider switched off", unfair, tErr, func(c *world) {
				c.left.offs--
				c.gws[gi].turns[i].off = true
			})
		}
		step(name+"calls the model", fair, func(c *world) string {
			bad := c.executes(gi, i, tQueued)
			ts := c.gws[gi].turns
			u := ts[i]
			u.state = tActive
			c.gws[gi].turns = append(append(ts[:i:i], ts[i+1:]...), u)
			return bad
		})
	case tActive:
		end("replies", fair, tOK, func(*world) {})
		if w.left.errors > 0 {
			end("fails", unfair, tErr, func(c *world) { c.left.errors-- })
		}
	case tDying:
		again := func(left turnState) func(*world) string {
			return func(c *world) string {
				ts := c.gws[gi].turns
				ts[i].state = left
				blind := t.took || t.blind
				c.gws[gi].turns = append(ts, turn{claim: t.claim, gen: t.gen, rerun: g.boot, state: tActive, mem: true,
					took: left == tMerged && !blind, blind: blind})
				return ""
			}
		}
		if g.scanned {
			step(name+"runs again", fair, again(tDead))
		}
		if g.scanned && w.cfg.merges {
			step(name+"runs again and takes its text", unfair, again(tMerged))
		}
	case tOK, tErr, tAborted:
		if t.mem && t.owner == 0 && w.left.forget > 0 && !w.onItsWay(t.claim) {
			step(name+"forgets", unfair, func(c *world) string {
				c.left.forget--
				c.gws[gi].turns[i].mem = false
				return ""
			})
		}
	}
}

// onItsWay reports whether a frame of the claim may still arrive, or an owner
// may still act on what it read before. A result is remembered for minutes;
// neither takes that long, as calls and leases have deadlines of seconds.
func (w *world) onItsWay(claim uint8) bool {
	for _, f := range w.orphans {
		if f.f.kind == fAgent && f.f.claim == claim {
			return true
		}
	}
	for i := range w.owners {
		o := &w.owners[i]
		for _, f := range o.out {
			if f.kind == fAgent && f.claim == claim {
				return true
			}
		}
		if o.unsent != nil && o.unsent.claim == claim || len(o.in) > 0 || o.conn != 0 && o.epoch != w.epoch[o.gw] {
			return true
		}
	}
	return false
}

func (w *world) ownerSteps(i int, step stepper) {
	o := &w.owners[i]
	g := &w.gws[o.at]
	name := fmt.Sprintf("o%d ", i)
	if o.conn == 0 && g.up && !o.away && w.current(i) { // connecting needs a fenced write
		step(name+"connects", fair, func(c *world) string {
			c.conns++
			c.owners[i].conn = c.conns
			return c.decide(i, c.gws[o.at].hello(o.at, c.conns))
		})
	}
	if o.conn != 0 && w.left.losses > 0 {
		lose := func(label string, written bool) {
			step(name+label, unfair, func(c *world) string {
				c.left.losses--
				return c.disconnect(i, written)
			})
		}
		lose("loses its connection", true)
		if o.unsent != nil {
			lose("loses its connection before the write", false)
		}
	}
	if i == 0 && w.cfg.gateways > 0 && w.left.takeovers > 0 {
		w.takeOver(step)
	}
	if i == 1 && w.left.homes > 0 && w.current(i) {
		w.homeAgain(step)
	}
	if o.asks && !o.alone {
		step(name+"has the gateway to itself", fair, func(c *world) string {
			c.owners[i].alone = true
			return c.decide(i, Alone{c.owners[i].conn})
		})
	}
	if o.unsent != nil {
		step(name+"writes", fair, func(c *world) string {
			p := &c.owners[i]
			p.out, p.unsent = append(p.out, *p.unsent), nil
			return c.decide(i, Sent{p.conn})
		})
		if w.left.notSent > 0 {
			step(name+"cannot write", unfair, func(c *world) string {
				c.left.notSent--
				c.owners[i].unsent = nil
				return c.decide(i, NotSent{c.owners[i].conn})
			})
		}
	}
	if len(o.out) > 0 && g.up {
		step(name+"frame is handled", fair, func(c *world) string {
			p := &c.owners[i]
			f := p.out[0]
			p.out = p.out[1:]
			e, bad := c.handle(o.at, f, uint8(i), p.conn)
			p.in = append(p.in, e)
			return bad
		})
	}
	if len(o.in) > 0 {
		step(name+"hears", fair, func(c *world) string {
			p := &c.owners[i]
			e := p.in[0]
			p.in = p.in[1:]
			return c.decide(i, e)
		})
	}
	w.storeSteps(i, name, step)
	w.timerSteps(i, name, step)
}

// takeOver: another owner raises the epoch and scans; the old one is dead, or
// paused or slow and does not know.
func (w *world) takeOver(step stepper) {
	take := func(c *world) string {
		c.left.takeovers--
		c.epoch[0] = 2
		c.owners[1].alive = true
		if c.row.Gateway == "g0" && (c.row.State.AtGateway() || c.row.State == messages.Held) {
			return c.start(1, c.row, c.sess, false)
		}
		return ""
	}
	step("o1 takes over", unfair, take)
	if w.owners[0].run == nil && w.owners[0].conn == 0 {
		return // dead or idle without a connection: no difference
	}
	step("o0 dies, o1 takes over", unfair, func(c *world) string {
		c.drop(0, true)
		c.owners[0] = owner{gw: 0, epoch: 1, seen: c.owners[0].seen}
		return take(c)
	})
}

// homeAgain: the gateway's home takes it back. Who had it has given it up, or
// is paused and does not know.
func (w *world) homeAgain(step stepper) {
	take := func(c *world) string {
		c.left.homes--
		c.epoch[0] = 3
		c.owners[3].alive = true
		if c.row.Gateway == "g0" && (c.row.State.AtGateway() || c.row.State == messages.Held) {
			return c.start(3, c.row, c.sess, false)
		}
		return ""
	}
	step("the home comes back", unfair, take)
	step("o1 ends, the home comes back", unfair, func(c *world) string {
		c.drop(1, true)
		c.owners[1] = owner{gw: 0, at: otherHost, epoch: 2, seen: c.owners[1].seen}
		return take(c)
	})
}

func (w *world) storeSteps(i int, name string, step stepper) {
	o := &w.owners[i]
	if o.commit != nil {
		step(name+"store commits "+o.commit.Task.State.String(), fair, func(c *world) string { return c.store(i) })
		if w.left.storeErrors > 0 {
			fail := func(label string, kept bool) {
				step(name+label, unfair, func(c *world) string {
					c.left.storeErrors--
					p := &c.owners[i]
					op, bad := p.commit.Op, ""
					if kept {
						bad = c.store(i)
					}
					p.commit, p.done = nil, &Committed{Op: op, Status: CommitFailed}
					return bad
				})
			}
			fail("store fails", false)
			fail("store's answer is lost", true)
		}
	}
	if o.done != nil {
		step(name+"learns of its commit", fair, func(c *world) string {
			d := *c.owners[i].done
			c.owners[i].done = nil
			return c.decide(i, d)
		})
	}
}

func (w *world) timerSteps(i int, name string, step stepper) {
	o := &w.owners[i]
	if o.run == nil {
		return
	}
	d := decision{Run: *o.run}
	fire := func(label string, t TimerKind, f fairness, cost func(c *world)) {
		if d.isArmed(t) {
			step(name+label, f, func(c *world) string {
				cost(c)
				return c.decide(i, Fired{t})
			})
		}
	}
	free := func(*world) {}
	fire("polls", PollTimer, fair, free)
	fire("tries the store again", StoreTimer, fair, free)
	fire("writes that it runs", RunningTimer, fair, free)
	if w.gws[o.at].scanned { // 20 s against at most 10 s
		fire("grace is over", GraceTimer, fair, free)
	}
	fire("stop limit", StopTimer, slow, free)
	if w.left.deadlines > 0 {
		fire("deadline", DeadlineTimer, unfair, func(c *world) { c.left.deadlines-- })
	}
}
