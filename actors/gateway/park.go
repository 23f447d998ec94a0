package gateway

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/dash-fleet/dash/actors/commit"
	"github.com/dash-fleet/dash/actors/session"
	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/messages/next"
	"github.com/dash-fleet/dash/persistence"
)

// sessionFailed notes why a session actor is being restarted, and lets later
// claims pass it.
func (g *gateway) sessionFailed(pid *actor.PID, reason any, failures int, after time.Duration) {
	for _, c := range g.claims {
		if c.pid.Equal(pid) {
			if c.failing == "" {
				g.cfg.Metrics.sessions.WithLabelValues("failed").Inc()
			}
			c.failing = fmt.Sprintf("failed %d times, restarted after %s: %v", failures, after.Round(time.Millisecond), reason)
			c.fresh, c.want = false, nil
		}
	}
}

// mended: the session actor is no longer being restarted.
func (g *gateway) mended(c *claim) {
	if c.failing != "" {
		c.failing = ""
		g.cfg.Metrics.sessions.WithLabelValues("failed").Dec()
	}
}

// again gives a restarted session actor its run, as the store has it now.
func (g *gateway) again(ctx actor.Context, ref messages.ClaimRef) {
	if g.claims[ref] == nil {
		return
	}
	g.writeReady(ctx)
	g.loadRow(ctx, ref, "")
}

type rowLoaded struct {
	ref     messages.ClaimRef
	task    messages.Task
	session *messages.Session
	park    string // why the session is to be parked, empty: it begins again
	err     error
}

// loadRow reads a claim's task and session.
func (g *gateway) loadRow(ctx actor.Context, ref messages.ClaimRef, park string) {
	c := g.claims[ref]
	store, base, limit, tenant := g.cfg.Store, g.ctx, g.cfg.Timing.CallTimeout, c.task.Tenant
	g.aside(ctx, func() any {
		out := rowLoaded{ref: ref, park: park}
		call, cancel := context.WithTimeout(base, limit)
		defer cancel()
		if out.task, out.err = store.Task(call, tenant, ref.Task); out.err == nil {
			out.session, out.err = sessionRow(base, store, limit, out.task)
		}
		return out
	})
}

func (g *gateway) rowLoaded(ctx actor.Context, m rowLoaded) {
	c := g.claims[m.ref]
	switch {
	case c == nil:
	case m.err != nil:
		g.cfg.Logger.Warn("task of a failed session cannot be read; trying again", slog.String("task", m.ref.Task), slog.Any("err", m.err))
		g.later(ctx, time.Second, loadAgain{ref: m.ref, park: m.park})
	case m.task.Claim != m.ref.Claim || !m.task.State.AtGateway() && (m.task.State != messages.Held || m.park != ""):
		// It ended while the actor was down, and the pool's sweep tells the rest;
		// or it is HELD, and nobody looks for its proof any more.
		ctx.Stop(c.pid)
		g.forget(ctx, c)
	case m.park != "":
		g.commitParked(ctx, m)
	default:
		g.mended(c)
		c.task = &m.task
		c.waits = false
		b := &session.Begin{Task: &m.task, Session: m.session}
		if g.link != nil {
			b.Linked = g.present()
		}
		ctx.Send(c.pid, b)
	}
}

type loadAgain struct {
	ref  messages.ClaimRef
	park string
}

// park is the message to self that a session actor has used up its restarts.
type park struct {
	pid    *actor.PID
	reason string
}

// parkLater runs inside the supervisor; the work is done on an ordinary turn.
func (g *gateway) parkLater(pid *actor.PID, reason any) {
	g.toPark = append(g.toPark, park{pid: pid, reason: fmt.Sprint(reason)})
	g.idle = slices.DeleteFunc(g.idle, pid.Equal)
}

// parkAll is called whenever a child has ended.
func (g *gateway) parkAll(ctx actor.Context) {
	todo := g.toPark
	g.toPark = nil
	for _, p := range todo {
		g.park(ctx, p)
	}
}

// park ends the task of a session that keeps failing: the run is stopped as
// well as possible and the task goes to the dead letters.
func (g *gateway) park(ctx actor.Context, m park) {
	for ref, c := range g.claims {
		if !c.pid.Equal(m.pid) {
			continue
		}
		g.tearDown(ctx, c.task.SessionKey(), false)
		g.loadRow(ctx, ref, m.reason)
		return
	}
}

type parkTag struct {
	inc     uint64
	ref     messages.ClaimRef
	task    messages.Task
	session *messages.Session
	reason  string
}

func (g *gateway) commitParked(ctx actor.Context, m rowLoaded) {
	now := messages.Now()
	t := m.task
	from := t.State
	t.State, t.FinishedAt, t.Stopping = messages.DeadLetter, now, messages.StopNone
	t.Error = &messages.TaskError{Code: string(messages.CodeSessionFailed), Message: "its session kept failing: " + m.park}
	op := persistence.Op{
		Fences: []messages.Fence{g.cfg.Fence},
		Update: &persistence.TaskUpdate{Task: t, From: from, FromClaim: t.Claim},
		Events: []*messages.Event{t.Event(from, now, "session_parked")},
	}
	tag := parkTag{inc: g.inc, ref: m.ref, task: t, reason: m.park}
	if m.session != nil {
		s := *m.session
		old := s.Generation
		s.Generation, s.Replay, s.State, s.UpdatedAt = old+1, true, messages.SessionParked, now
		s.Restarts = g.cfg.Timing.SessionLimit
		s.Reason = "its actor failed more than " + fmt.Sprint(g.cfg.Timing.SessionLimit) + " times: " + m.park
		s.NextStep = fmt.Sprintf(next.LookThenResumeSession, t.ID, messages.SessionArgument(s.Tenant, s.ID))
		op.Session = &persistence.SessionWrite{Session: s, FromGeneration: old}
		op.Events = append(op.Events, s.Event(messages.SessionFailed, now))
		tag.session = &s
	}
	ctx.Send(g.cfg.Committer, commit.Request{Op: op, ReplyTo: ctx.Self(), Tag: tag})
}

func (g *gateway) parked(ctx actor.Context, tag parkTag, d commit.Done) {
	c := g.claims[tag.ref]
	if tag.inc != g.inc || c == nil {
		return
	}
	if d.Err == nil && d.Outcome.Status == persistence.Fenced {
		g.lost(ctx)
		return
	}
	if d.Err != nil || d.Outcome.Status != persistence.OK {
		g.loadRow(ctx, tag.ref, tag.reason) // the row moved on: look again
		return
	}
	g.cfg.Logger.Error("session parked", slog.String("task", tag.ref.Task), slog.String("session", c.task.Session), slog.String("reason", tag.reason))
	g.forget(ctx, c)
	if tag.session == nil { // durable only now: before, its transcript may have been wanted
		g.tearDown(ctx, tag.task.SessionKey(), true)
	}
	ctx.Request(g.cfg.Pool(g.gw.Pool), &messages.Ended{Task: tag.task, Session: tag.session})
}
