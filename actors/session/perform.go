package session

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/dash-fleet/dash/actors/commit"
	"github.com/dash-fleet/dash/actors/openclaw"
	"github.com/dash-fleet/dash/persistence"
)

// perform carries out one effect of the machine.
func (s *session) perform(ctx actor.Context, eff Effect) {
	switch e := eff.(type) {
	case Send:
		s.send(ctx, e)
	case ReadSession:
		s.ask(ctx, e.Conn, s.cfg.Timing.Call, s.reading(e))
	case Wait:
		s.ask(ctx, e.Conn, e.Timeout+s.cfg.Timing.Call, func(c context.Context, l Link) (Event, error) { return wait(c, l, e) })
	case Abort:
		s.ask(ctx, e.Conn, s.cfg.Timing.Call, func(c context.Context, l Link) (Event, error) { return abort(c, l, e) })
	case Arm:
		s.clock.arm(e.Timer, s.now, e.After)
	case Disarm:
		s.clock.disarm(e.Timer, s.now)
	case *Commit:
		s.commit(ctx, e)
	case Ended:
		s.over.Ended = e.Ended
	case Returned:
		s.over.Returned = &e.Returned
	case SessionChanged:
		ctx.Send(ctx.Parent(), Report{Ref: s.ref, Changed: &e.SessionChangedByG})
	case Proof:
		ctx.Send(ctx.Parent(), Report{Ref: s.ref, Proof: &e.Task})
	case Fence:
		s.over.Fence = e
	case DeleteSession:
		s.over.Delete = e.Key
	case Suspected:
		ctx.Send(ctx.Parent(), Suspect{Ref: s.ref})
	case AskAlone:
		ctx.Send(ctx.Parent(), WantAlone{Ref: s.ref})
	case Release:
		s.endCalls()
		over := s.over
		ctx.Send(ctx.Parent(), &over)
	default:
		panic(fmt.Sprintf("session: unknown effect %T", eff))
	}
}

// send hands the frame to the gateway actor, which writes all frames in the
// order of their claims. A new generation starts with the session's history.
func (s *session) send(ctx actor.Context, e Send) {
	if !e.Replay || e.History != "" || s.d.Task.Session == "" {
		s.write(ctx, e, e.History)
		return
	}
	root, self, life, base := ctx.ActorSystem().Root, ctx.Self(), s.life, s.calls()
	tenant, id := s.d.Task.Tenant, s.d.Task.Session
	go func() {
		c, cancel := context.WithTimeout(base, s.cfg.Timing.Call)
		defer cancel()
		text, err := s.cfg.History(c, tenant, id)
		root.Send(self, loaded{life: life, send: e, text: text, err: err})
	}()
}

func (s *session) loaded(ctx actor.Context, m loaded) {
	if m.life != s.life {
		return
	}
	if m.err != nil {
		s.cfg.Logger.Warn("session history cannot be read; the run waits for it",
			slog.String("task", s.ref.Task), slog.Any("err", m.err))
		s.decide(ctx, NotSent{Conn: m.send.Conn})
		return
	}
	s.write(ctx, m.send, m.text)
}

func (s *session) write(ctx actor.Context, e Send, history string) {
	message := e.Message
	if history != "" {
		message = history + "\n\n" + e.Message
	}
	ctx.Send(ctx.Parent(), &SendRun{Ref: s.ref, Conn: e.Conn, Request: openclaw.AgentRequest{
		RunID: e.RunID, SessionKey: e.SessionKey, Message: message, Model: e.Model, Timeout: max(e.Timeout, time.Second),
	}})
}

// reading reads a session when it is its turn, and when there is room for what was
// read: many transcripts at once may be more than fits into memory.
func (s *session) reading(e ReadSession) func(context.Context, Link) (Event, error) {
	places, hold, ref := s.cfg.Reads, s.cfg.Hold, s.ref
	return func(ctx context.Context, l Link) (Event, error) {
		if places == nil || hold == nil {
			return read(ctx, l, e.Conn, e.Key)
		}
		select {
		case places <- struct{}{}:
			defer func() { <-places }()
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		out, err := read(ctx, l, e.Conn, e.Key)
		if err != nil {
			return nil, err
		}
		if n := size(out); n > openclaw.FreeText {
			err = hold(ctx, ref, n)
		}
		return out, err
	}
}

// size is how many bytes of texts were read.
func size(e Event) int {
	n := 0
	if s, ok := e.(SessionRead); ok {
		for _, t := range s.Turns {
			n += len(t.Reply.GetText())
			for _, late := range t.Late {
				n += len(late)
			}
		}
	}
	return n
}

// ask does one slow question on its own goroutine, at most one at a time by
// the machine's rules.
func (s *session) ask(ctx actor.Context, conn Conn, limit time.Duration, question func(context.Context, Link) (Event, error)) {
	root, self, life, link := ctx.ActorSystem().Root, ctx.Self(), s.life, s.link
	if link == nil {
		ctx.Send(self, happened{life: life, event: AskFailed{Conn: conn}})
		return
	}
	base := s.calls()
	go func() {
		c, cancel := context.WithTimeout(base, limit)
		defer cancel()
		e, err := question(c, link)
		if err != nil {
			e = AskFailed{Conn: conn}
		}
		root.Send(self, happened{life: life, event: e, err: err})
	}()
}

func (s *session) happened(ctx actor.Context, m happened) {
	if m.life != s.life {
		return
	}
	if m.err == nil || !unreadable(m.err) {
		s.unreadable = 0
	} else if s.unreadable++; s.unreadable >= s.cfg.Timing.Unreadable {
		panic(fmt.Errorf("session of task %s cannot be read at its gateway: %w", s.ref.Task, m.err))
	}
	if m.event != nil {
		s.decide(ctx, m.event)
	}
	if read, ok := m.event.(SessionRead); ok {
		s.hasRead(ctx, read)
	}
}

// hasRead: what was read is kept only if it is the end of the run.
func (s *session) hasRead(ctx actor.Context, read SessionRead) {
	if s.cfg.Free != nil && !s.d.keeps() {
		s.cfg.Free(s.ref)
	}
	if read.SubAgents > 0 && !s.d.Over() {
		ctx.Send(ctx.Parent(), Attends{Ref: s.ref, SubAgents: read.SubAgents})
	}
}

// keeps reports whether a reply of the run is kept.
func (r *Run) keeps() bool { return r.end != nil || r.answer != nil || r.read != nil }

func (s *session) commit(ctx actor.Context, e *Commit) {
	op := persistence.Op{Fences: s.fences, Update: &e.TaskUpdate}
	now, from := s.now, e.From
	if e.Via != 0 {
		via := e.Task
		via.State, via.Error = e.Via, nil
		op.Events = append(op.Events, via.Event(from, now, "accepted"))
		from = e.Via
	}
	if e.Task.State != from || e.Task.Claim != e.FromClaim {
		op.Events = append(op.Events, e.Task.Event(from, now, e.Reason))
	}
	if e.Session != nil {
		op.Session = &persistence.SessionWrite{Session: *e.Session, FromGeneration: e.FromGeneration}
		op.Events = append(op.Events, e.Session.Event(0, now))
	}
	ctx.Send(s.cfg.Committer, commit.Request{Op: op, ReplyTo: ctx.Self(), Tag: commitTag{life: s.life, op: e.Op}})
}

func (s *session) committed(ctx actor.Context, d commit.Done) {
	tag, ok := d.Tag.(commitTag)
	if !ok || tag.life != s.life {
		return
	}
	c := Committed{Op: tag.op, Current: d.Outcome.Current}
	switch {
	case d.Err != nil:
		c.Status = CommitFailed
	case d.Outcome.Status == persistence.OK:
		c.Status = CommitOK
	case d.Outcome.Status == persistence.Fenced:
		c.Status = CommitFenced
	default:
		c.Status = CommitConflict
	}
	s.decide(ctx, c)
}
