package dispatch

import (
	"log/slog"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/dash-fleet/dash/actors/commit"
	"github.com/dash-fleet/dash/messages"
)

// broker is the arbiter actor: it keeps what the pool knows of its open tasks,
// sessions and gateways, asks the pure Arbiter for decisions, and writes them.
// At most one operation of a task and one of a session is under way; what the
// row asks for next is read from the row when it is over (settle).
type broker struct {
	s        *shared
	pool     messages.Pool
	self     *actor.PID
	classes  [numClasses]*actor.PID
	arb      *Arbiter
	tasks    map[string]*entry
	sessions map[string]*session
	opens    map[string]int // open tasks by session, also those that are not in the order yet
	gates    map[string]*gate
	requests commit.Requests            // of the present turn
	states   [numClasses][numStates]int // open tasks by class and state
	changes  uint64                     // grows with every change of a row in memory
	began    time.Time
	now      time.Time // of the message being handled
	serving  bool
	sweep    sweep
}

const numStates = int(messages.Expired) + 1

// entry is one open task.
type entry struct {
	item Item
	row  messages.Task
	busy bool // an operation on it is under way
	void bool // it was not written: there is no such task
	// arriving: its insert is under way; a claim may follow it already.
	arriving bool
	tried    bool   // such a claim failed
	later    []any  // commands that wait for that
	changed  uint64 // broker.changes at its last change
	armed    int64  // what its dispatcher was told
	sent     time.Time
	stopped  time.Time
	listed   time.Time // when its gateway last listed it, or was given it
	checked  time.Time // when its row was last read because it was not listed
}

// Messages of the actor to itself.
type (
	tick      struct{}
	sweepTime struct{}
	again     struct{ f func(actor.Context) }
)

func newBroker(s *shared, classes [numClasses]*actor.PID) *broker {
	b := &broker{
		s: s, pool: s.Pool, classes: classes, arb: NewArbiter(), tasks: map[string]*entry{},
		sessions: map[string]*session{}, opens: map[string]int{}, gates: map[string]*gate{},
	}
	b.arb.Configure(limitsOf(&b.pool))
	return b
}

func (b *broker) Receive(ctx actor.Context) {
	b.now = messages.Now()
	switch m := ctx.Message().(type) {
	case *actor.Started:
		b.self = ctx.Self()
		b.began = b.now
	case commit.Dones:
		for _, d := range m {
			d.Tag.(*asked).then(ctx, d)
		}
	case ready:
		b.ready(ctx, m.in)
	case messages.Demand:
		b.demand(ctx, &m)
	case *messages.Ended:
		b.ended(ctx, m)
	case messages.Proof:
		b.proven(ctx, &m.Task)
	case messages.SessionChangedByG:
		b.sessionChanged(ctx, &m.Session)
	case admit:
		b.admit(ctx, m.in, ctx.Sender())
	case wake:
		b.wake(ctx, m.tasks)
	case again:
		m.f(ctx)
	case taskPage:
		b.loadTasks(m.tasks)
	case sessionPage:
		b.loadSessions(m.sessions)
	case loadEnd:
		b.loaded(ctx, m.seq)
	case tick:
		b.tick(ctx)
	case sweepTime:
		b.startSweep(ctx)
	case swept:
		b.swept(ctx, m)
	case verified:
		b.verified(ctx, m)
	default:
		b.command(ctx, m)
	}
	if b.serving {
		b.pump(ctx)
	}
	b.flush(ctx)
}

// add makes an open task known.
func (b *broker) add(row messages.Task) *entry {
	row.Tenant, row.Pool = b.intern(row.Tenant), b.pool.ID
	e := &entry{item: Item{ID: row.ID, Class: row.Class}, listed: b.now}
	e.item.Owner = e
	b.tasks[row.ID] = e
	b.apply(e, row)
	return e
}

// intern returns one copy of a tenant's name for all rows.
func (b *broker) intern(tenant string) string {
	if tenant == b.pool.Tenant {
		return b.pool.Tenant
	}
	return tenant
}

// apply makes row the state of the task in memory, with everything that is
// counted from it. The row is durable already.
func (b *broker) apply(e *entry, row messages.Task) {
	old := e.row
	if old.CancelRequested() && !row.CancelRequested() {
		row.Cancel.RequestedAt, row.Cancel.Reason = old.Cancel.RequestedAt, old.Cancel.Reason
	}
	b.changes++
	e.row, e.changed = row, b.changes
	if old.ID == "" || old.Seq != row.Seq {
		b.arb.Set(&e.item, Gone, "")
		e.item.Seq, e.item.Since = row.Seq, since(&row).UnixMicro()
		e.item.Need = needOf(&row)
		if row.Session != "" {
			e.item.Session = sessionID(row.Tenant, row.Session)
		}
	}
	b.count(e, &old, &row)
	b.place(e, old.Gateway)
	if was, is := old.ID != "" && !old.State.Terminal(), !row.State.Terminal(); is && !was {
		b.openIn(e.item.Session, 1)
	} else if was && !is {
		b.openIn(e.item.Session, -1)
	}
	if row.State.Terminal() {
		delete(b.tasks, row.ID)
		if e.item.Session != "" {
			b.sessionIdle(e.item.Session)
		}
	}
	b.armFor(e)
}

// openIn counts the open tasks of a session.
func (b *broker) openIn(session string, n int) {
	if session == "" {
		return
	}
	if b.opens[session] += n; b.opens[session] == 0 {
		delete(b.opens, session)
	}
}

// count keeps the numbers by state, and what counts against the class's limits.
func (b *broker) count(e *entry, old, row *messages.Task) {
	c := row.Class
	if old.ID == "" || old.State != row.State {
		if old.ID != "" {
			b.states[c][old.State]--
			b.s.Metrics.entered(row)
		}
		if !row.State.Terminal() {
			b.states[c][row.State]++
		}
	}
	was, is := old.ID != "" && old.State.Waiting(), row.State.Waiting()
	l := &b.s.loads[c]
	switch {
	case is && !was:
		l.add(row, 1)
	case was && !is:
		l.add(row, -1)
		if row.State == messages.Claimed {
			l.left.Add(1)
		}
	}
}

// place brings the task's phase in the arbiter in line with its row.
func (b *broker) place(e *entry, from string) {
	p := phaseOf(e.row.State)
	if p == Flying {
		b.gate(e.row.Gateway).tasks[e.row.ID] = e
	}
	if from != "" && (p != Flying || from != e.row.Gateway) {
		if g := b.gates[from]; g != nil {
			delete(g.tasks, e.row.ID)
		}
	}
	b.arb.Set(&e.item, p, e.row.Gateway)
}

// armFor tells the class's dispatcher when the task has to be looked at again.
func (b *broker) armFor(e *entry) {
	var at int64
	if t := nextTime(&e.row); !t.IsZero() {
		at = max(1, t.UnixMicro())
	}
	if at == e.armed {
		return
	}
	e.armed = at
	b.s.send.Send(b.classes[e.row.Class], arm{task: e.row.ID, at: at})
}

// settle takes the next step that the row itself asks for.
func (b *broker) settle(ctx actor.Context, e *entry) {
	t := &e.row
	if e.busy || e.void || t.State.Terminal() || !b.serving {
		return
	}
	overdue := func(at time.Time) bool { return !at.IsZero() && !at.After(b.now) }
	switch {
	case t.CancelRequested() && (t.State.Waiting() || t.State == messages.Held):
		b.step(ctx, e, to(cancelled(*t, b.now, stoppable(t)), "cancel"))
	case t.CancelRequested() && t.State.AtGateway():
		b.stopRun(ctx, e)
	case t.State.Waiting() && overdue(t.NotAfter):
		b.step(ctx, e, to(expired(*t, b.now), "not_after"))
	case t.State == messages.Scheduled && overdue(t.DueAt):
		b.step(ctx, e, to(due(*t, b.s.seq.Add(1)), "due"))
	case t.State == messages.RetryWait && (t.DueAt.IsZero() || overdue(t.DueAt)):
		b.step(ctx, e, to(due(*t, 0), "due"))
	case t.State == messages.Held && overdue(t.DueAt):
		b.step(ctx, e, to(dead(*t, b.now, messages.CodeOutcomeUnknown,
			"its gateway was lost while it ran and nobody could say within 24 hours whether it succeeded"), "outcome_unknown"))
	}
}

func (b *broker) wake(ctx actor.Context, ids []string) {
	for _, id := range ids {
		if e := b.tasks[id]; e != nil {
			e.armed = 0
			b.settle(ctx, e)
			if !e.busy {
				b.armFor(e)
			}
		}
	}
}

// ready takes a durable task into the order and answers its client: whatever is
// decided after the answer has seen the task.
func (b *broker) ready(ctx actor.Context, in *intake) {
	e := b.tasks[in.Task.ID]
	if e == nil {
		b.s.Metrics.entered(&in.Task)
		e = b.add(in.Task)
	}
	b.s.loads[in.Task.Class].add(&in.Task, -1) // its dispatcher has counted it at admission
	reply(in.reply, SubmitReply{Task: in.Task})
	b.settle(ctx, e)
}

// mend counts one difference between memory and store that was put right.
func (b *broker) mend(what string) {
	b.s.Metrics.corrections.WithLabelValues(b.pool.ID, what).Inc()
	b.s.Logger.Warn("pool differed from the store and was mended", slog.String("pool", b.pool.ID), slog.String("what", what))
}

func (b *broker) stale(what string) {
	b.s.Metrics.stale.WithLabelValues(b.pool.ID, what).Inc()
}
