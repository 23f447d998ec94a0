package session

import (
	"fmt"

	"github.com/dash-fleet/dash/messages"
)

// A key tells two worlds apart if and only if their futures may differ: times,
// counters and texts are left out.

type keyWriter struct{ b []byte }

func (k *keyWriter) n(vs ...int) {
	for _, v := range vs {
		k.b = append(k.b, byte(v))
	}
}

func (k *keyWriter) t(vs ...bool) {
	var x byte
	for i, v := range vs {
		if v {
			x |= 1 << i
		}
	}
	k.b = append(k.b, x)
}

func (k *keyWriter) s(v string) { k.b = append(append(k.b, v...), 0) }

func (k *keyWriter) task(t *messages.Task) {
	k.n(int(t.State), int(t.Claim), int(t.Attempt), int(t.Generation), int(t.Stopping), int(t.Cancel.Confirmed), int(t.Error.GetUncalled()))
	k.t(t.CancelRequested(), t.StartedAt.IsZero(), t.Result != nil)
	k.s(t.BootID)
	k.s(t.ObservedRunID)
	k.s(t.Gateway)
	k.n(len(t.Trials.GetDeaths()))
	k.t(t.Doomed(), t.ActiveSince.IsZero())
}

func (k *keyWriter) run(r *Run, conn Conn) {
	k.task(&r.Task)
	if r.Session != nil {
		k.n(int(r.Session.Generation), int(r.Session.State))
	}
	k.s(r.boot)
	k.s(r.sentBoot)
	k.s(r.track)
	k.s(r.before)
	k.s(r.again)
	k.t(r.seen)
	k.t(r.conn == 0, r.conn == conn, r.fresh, r.wrote, r.unsent, r.refused, r.stale, r.graceOver)
	k.t(r.onBoot, r.rested, r.asked, r.alone, r.died, r.lostAt.IsZero(), r.since.IsZero())
	k.s(r.lastBoot)
	k.s(r.ended)
	k.t(r.watching, r.gone, r.fenced, r.storeWait, r.keepRow, r.keyFree, r.accepted)
	k.n(int(r.sends), int(r.send), int(r.ask), int(r.step), int(r.misses), int(r.stop), int(r.armed))
	if e := r.end; e != nil {
		k.n(int(e.kind))
		k.t(true, e.unconfirmed, e.lost, e.crashed, e.off > 0)
	}
	k.n(250)
	if r.read != nil {
		k.event(*r.read)
	}
	if r.commit != nil {
		k.commit(r.commit)
	}
}

func (k *keyWriter) commit(c *Commit) {
	k.task(&c.Task)
	k.n(int(c.From), int(c.Via))
	k.t(c.unsure, c.Session != nil)
	if c.Session != nil {
		k.n(int(c.Session.Generation), int(c.FromGeneration))
	}
}

func (k *keyWriter) event(e Event) {
	switch e := e.(type) {
	case Answer:
		k.n(1, int(e.Kind))
		k.t(e.Off > 0)
		k.s(e.RunID)
	case WaitAnswer:
		k.n(2, int(e.Kind))
		k.t(e.Off > 0)
		k.s(e.RunID)
	case AbortAnswer:
		k.n(3)
		for _, r := range e.Runs {
			k.s(r)
		}
	case SessionRead:
		k.n(4)
		k.s(e.Key)
		k.t(e.Busy, e.AbortedLastRun)
		for _, r := range e.ActiveRuns {
			k.s(r)
		}
		k.n(251)
		for _, r := range e.Pending {
			k.s(r)
		}
		k.n(252)
		for _, t := range e.Turns {
			k.s(t.RunID)
			k.t(t.Bare, t.Reply != nil)
		}
	default:
		panic(fmt.Sprintf("unexpected %T", e))
	}
	k.n(253)
}

func (k *keyWriter) frame(f frame) {
	k.n(int(f.kind), int(f.claim), int(f.gen))
	k.s(f.run)
	k.t(f.alone)
}

func (w *world) key(buf []byte) []byte {
	k := keyWriter{buf[:0]}
	k.task(&w.row)
	k.n(int(w.sess.Generation), int(w.sess.State), w.assign, int(w.excused), int(w.epoch[0]))
	l := &w.left
	k.n(int(w.claimed))
	k.b = append(k.b, l.crashes, l.losses, l.takeovers, l.cancels, l.errors, l.offs, l.refusals, l.aways, l.deadlines, l.notSent, l.storeErrors, l.forget, l.homes, l.stops, w.crashes)
	k.t(w.guilty)
	for gi := range w.gws {
		g := &w.gws[gi]
		if gi != otherHost && gi >= w.cfg.gateways || gi == otherHost && !w.cfg.off.home {
			continue
		}
		k.t(g.up, g.scanned, g.refusing)
		k.n(int(g.boot), int(g.ended), len(g.turns))
		for _, t := range g.turns {
			k.n(int(t.claim), int(t.gen), int(t.rerun), int(t.state), int(t.owner))
			k.t(t.mem, t.off, t.alone, t.took, t.blind)
		}
	}
	for i := range w.owners {
		o := &w.owners[i]
		k.t(o.alive, o.run != nil, o.conn != 0, o.unsent != nil, o.commit != nil, o.done != nil, o.proof)
		k.t(o.asks, o.alone)
		if !o.alive {
			continue
		}
		k.n(int(o.seen), int(o.returned), len(o.out), len(o.in))
		if o.run != nil {
			k.run(o.run, o.conn)
		}
		if o.unsent != nil {
			k.frame(*o.unsent)
		}
		for _, f := range o.out {
			k.frame(f)
		}
		for _, e := range o.in {
			k.event(e)
		}
		if o.commit != nil {
			k.commit(o.commit)
		}
		if d := o.done; d != nil {
			k.n(int(d.Status))
			if d.Current != nil {
				k.task(d.Current)
			}
		}
	}
	for _, f := range w.orphans {
		k.n(f.gw, int(f.boot))
		k.frame(f.f)
	}
	return k.b
}
