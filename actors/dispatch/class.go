package dispatch

import (
	"fmt"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/dash-fleet/dash/actors/commit"
	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/messages/next"
	"github.com/dash-fleet/dash/persistence"
)

// dispatcher is the actor of one class: admission, durable enqueue, and the
// clock of the class's waiting tasks. It keeps no task: the arbiter tells it
// how many wait.
type dispatcher struct {
	s       *shared
	class   messages.Class
	limit   messages.ClassLimit
	arbiter *actor.PID
	load    *load // tasks that wait, those on their way in included
	rate    drain
	alarms  alarms
	timer   *time.Timer
	timerAt int64
}

func newDispatcher(s *shared, c messages.Class) *dispatcher {
	return &dispatcher{s: s, class: c, limit: s.Pool.Limit(c), load: &s.loads[c]}
}

// Messages between the dispatchers and the arbiter actor of one incarnation.
type (
	// meet tells a dispatcher who its arbiter is.
	meet struct{ arbiter *actor.PID }
	// intake is a task on its way in.
	intake struct {
		persistence.TaskInsert
		replay bool  // of a dead letter, instead of an insert
		from   int64 // its claim
		reply  chan<- SubmitReply
	}
	// admit asks the arbiter whether the task's session may take it. A new task
	// goes on into the order; for a refused one and a replay admitted answers.
	admit    struct{ in *intake }
	admitted struct {
		in  *intake
		err error
	}
	// ready gives a durable task to the arbiter, which then answers the client.
	ready struct{ in *intake }
	// pulse comes every second: time to see how many tasks went to a gateway.
	pulse struct{}
	// arm sets the moment at which the arbiter wants to be told of the task.
	arm struct {
		task string
		at   int64
	}
	// wake tells the arbiter that the moment has come.
	wake struct{ tasks []string }
	// rule changes a dispatcher's limits.
	rule struct{ limit messages.ClassLimit }
	// alarmClock is a dispatcher's own timer.
	alarmClock struct{}
	// measure asks the dispatcher for its part of the statistics.
	measure struct {
		stats Stats
		reply chan<- Stats
		rest  []*actor.PID
	}
)

func (d *dispatcher) Receive(ctx actor.Context) {
	switch m := ctx.Message().(type) {
	case meet:
		d.arbiter = m.arbiter
	case *Submit:
		d.submit(ctx, m)
	case Replay:
		d.replay(ctx, m)
	case admitted:
		d.admitted(ctx, m)
	case commit.Done:
		d.enqueued(ctx, m)
	case pulse:
		d.rate.add(time.Now(), int(d.load.left.Swap(0)))
	case arm:
		d.alarms.set(m.task, m.at)
		d.wind(ctx)
	case alarmClock:
		d.ring(ctx)
	case rule:
		d.limit = m.limit
	case measure:
		d.measure(ctx, m)
	case *actor.Stopping, *actor.Restarting:
		if d.timer != nil {
			d.timer.Stop()
		}
	}
}

// submit reserves a place, then has the session checked, then writes.
func (d *dispatcher) submit(ctx actor.Context, m *Submit) {
	in := &intake{
		TaskInsert: persistence.TaskInsert{Task: m.Task, IdemKey: m.IdemKey, IdemHash: m.IdemHash},
		reply:      m.Reply,
	}
	t, now := &in.Task, messages.Now()
	t.Pool, t.Class = d.s.Pool.ID, d.class
	t.State = messages.Queued
	if t.CreatedAt.IsZero() {
		t.CreatedAt = now
	}
	if t.DueAt.After(now) {
		t.State = messages.Scheduled
	} else {
		t.DueAt = time.Time{}
	}
	if !t.NotAfter.IsZero() && !t.NotAfter.After(now) {
		d.turnAway(ctx, in, "expired", refuse(messages.CodeInvalid, "not_after has passed already", next.LaterNotAfter))
		return
	}
	d.take(ctx, in)
}

func (d *dispatcher) replay(ctx actor.Context, m Replay) {
	t := m.Task
	now := messages.Now()
	switch {
	case t.State != messages.DeadLetter:
		reply(m.Reply, SubmitReply{Task: t, Err: refuse(messages.CodeWrongState,
			"only a dead letter can be replayed, this task is "+t.State.String(), next.ReadTaskAgain)})
	case !t.NotAfter.IsZero() && !t.NotAfter.After(now):
		reply(m.Reply, SubmitReply{Task: t, Err: refuse(messages.CodeWrongState,
			"the task's not_after has passed", next.SubmitNew)})
	default:
		t.ReplayedBy, t.ReplayedAt = m.By, now
		d.take(ctx, &intake{TaskInsert: persistence.TaskInsert{Task: t}, replay: true, from: t.Claim, reply: m.Reply})
	}
}

func (d *dispatcher) take(ctx actor.Context, in *intake) {
	if err := d.storeRoom(); err != nil {
		d.turnAway(ctx, in, "store_full", err)
		return
	}
	if err := d.room(&in.Task); err != nil {
		d.turnAway(ctx, in, string(err.Code), err)
		return
	}
	d.load.add(&in.Task, 1)
	if !in.replay || in.Task.Session != "" {
		ctx.Request(d.arbiter, admit{in})
		return
	}
	d.enqueue(ctx, in)
}

// storeRoom refuses what the store has no room for: the rest is for the tasks
// that are under way.
func (d *dispatcher) storeRoom() *messages.Error {
	if d.s.Room == nil {
		return nil
	}
	r := d.s.Room()
	if !r.Full() {
		return nil
	}
	return &messages.Error{Code: messages.CodeUnavailable, Message: "the store takes no new tasks: " + r.Why, NextStep: r.Next, RetryAfter: fullRetry}
}

func (d *dispatcher) room(t *messages.Task) *messages.Error {
	count, bytes := int(d.load.count.Load()), d.load.bytes.Load()
	var message string
	switch {
	case count >= d.limit.Count:
		message = fmt.Sprintf("%d tasks of class %s wait in pool %s, its limit is %d", count, d.class, d.s.Pool.ID, d.limit.Count)
	case bytes+weight(t) > d.limit.Bytes:
		message = fmt.Sprintf("the inputs of class %s in pool %s hold %d bytes, their limit is %d", d.class, d.s.Pool.ID, bytes, d.limit.Bytes)
	default:
		return nil
	}
	return &messages.Error{Code: messages.CodeQueueFull, Message: message, Position: count, Limit: d.limit.Count,
		NextStep: next.SendAfterRetryAfter, RetryAfter: retryAfter(d.limit.Count, d.rate.perSecond(time.Now()))}
}

func (d *dispatcher) refuse(to chan<- SubmitReply, reason string, err error) {
	d.s.Metrics.refused.WithLabelValues(d.s.Pool.ID, d.class.String(), reason).Inc()
	reply(to, SubmitReply{Err: err})
}

func (d *dispatcher) admitted(ctx actor.Context, m admitted) {
	if m.err != nil {
		d.release(m.in)
		d.turnAway(ctx, m.in, string(messages.CodeOf(m.err)), m.err)
		return
	}
	d.enqueue(ctx, m.in)
}

func (d *dispatcher) release(in *intake) {
	d.load.add(&in.Task, -1)
}

// enqueue gives a replayed task its place in the order and asks for it to be made durable.
func (d *dispatcher) enqueue(ctx actor.Context, in *intake) {
	in.Task = replayed(in.Task, d.s.seq.Add(1))
	op := persistence.Op{
		Fences: []messages.Fence{d.s.Fence},
		Update: &persistence.TaskUpdate{Task: in.Task, From: messages.DeadLetter, FromClaim: in.from, ClearCancel: true},
		Events: []*messages.Event{in.Task.Event(messages.DeadLetter, messages.Now(), "replay")},
	}
	ctx.Send(d.s.Committer, commit.Request{Op: op, FailFast: true, ReplyTo: ctx.Self(), Tag: in})
}

func (d *dispatcher) enqueued(ctx actor.Context, m commit.Done) {
	if q, ok := m.Tag.(*inquiry); ok {
		d.known(q, m)
		return
	}
	in := m.Tag.(*intake)
	if m.Err == nil && m.Outcome.Status == persistence.OK {
		ctx.Send(d.arbiter, ready{in})
		return
	}
	d.release(in)
	reply(in.reply, d.s.notEnqueued(in, m))
}

// wind sets the timer to the first alarm.
func (d *dispatcher) wind(ctx actor.Context) {
	now := time.Now()
	wait, ok := d.alarms.next(now.UnixMicro())
	if !ok {
		return
	}
	at := now.UnixMicro() + wait.Microseconds()
	if d.timer != nil && d.timerAt != 0 && d.timerAt <= at {
		return // it rings before that anyway
	}
	if d.timer != nil {
		d.timer.Stop()
	}
	d.timerAt = at
	d.timer = d.s.after(wait, ctx.Self(), alarmClock{})
}

// ring tells the arbiter of the tasks whose moment has come, a bounded number at a time.
func (d *dispatcher) ring(ctx actor.Context) {
	d.timerAt = 0
	now := time.Now().UnixMicro()
	var tasks []string
	for len(tasks) < 1000 {
		id, ok := d.alarms.ring(now)
		if !ok {
			break
		}
		tasks = append(tasks, id)
	}
	if len(tasks) > 0 {
		ctx.Send(d.arbiter, wake{tasks})
	}
	d.wind(ctx)
}

// measure adds the class's limits and hands the statistics to the next class.
func (d *dispatcher) measure(ctx actor.Context, m measure) {
	for i := range m.stats.Classes {
		if s := &m.stats.Classes[i]; s.Class == d.class {
			s.Limit, s.Admitted, s.Bytes = d.limit, int(d.load.count.Load()), d.load.bytes.Load()
		}
	}
	if len(m.rest) == 0 {
		reply(m.reply, m.stats)
		return
	}
	next := m.rest[0]
	m.rest = m.rest[1:]
	ctx.Send(next, m)
}
