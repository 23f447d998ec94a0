package dispatch

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/messages/next"
	"github.com/dash-fleet/dash/persistence"
)

// Client sends commands to the pools of this node and waits for their answers
// or the end of ctx, whichever is first. It is safe for concurrent use. Errors
// that may be shown to a user are *messages.Error.
type Client struct {
	// Send delivers messages: the root context of the actor system.
	Send *actor.RootContext
	// Pool returns the root actor of a pool; its error goes to the caller.
	Pool func(ctx context.Context, id string) (*actor.PID, error)
	// Left is closed when this node lets go of the shard of a pool, or has done so: its
	// owner may have ended without an answer. nil: nobody knows.
	Left func(pool string) <-chan struct{}
	// Entry is Pool for what a tenant brings: new work and sessions, and dead
	// letters that go back. It refuses a pool that is not the tenant's. done is
	// called when the pool has answered, or nobody waits for that any more.
	Entry func(ctx context.Context, tenant, id string) (pool *actor.PID, done func(), err error)
	// Store finds the pool and the row of a task.
	Store Reader
	// InDoubt is closed while nobody knows whether the store has taken what it
	// was given last; see commit.Metrics. nil: nobody asks.
	InDoubt func() <-chan struct{}
}

// unclearAfter is how long a command waits for its proper answer once the store
// is in doubt, or its pool is not here any more: one that does not depend on that comes at
// once. What the command asked for may still happen, or have happened.
const unclearAfter = 250 * time.Millisecond

// answer waits for what a pool says, but not for a store in doubt, nor for the owner
// of a shard that was left.
func answer[T any](ctx context.Context, c *Client, ch <-chan T, left <-chan struct{}) (T, error) {
	var zero T
	var doubt <-chan struct{}
	var late <-chan time.Time
	why := "the store has not said yet whether it took the request; it may still happen"
	if c.InDoubt != nil {
		doubt = c.InDoubt()
	}
	for {
		select {
		case r := <-ch:
			return r, nil
		case <-ctx.Done():
			return zero, timedOut(ctx)
		case <-doubt:
			doubt, late = nil, time.After(unclearAfter)
		case <-left:
			why = "another node owns this shard now, and this one does not know whether it took the request before"
			left, late = nil, time.After(unclearAfter)
		case <-late:
			return zero, &messages.Error{
				Code: messages.CodeTimeout, Message: why,
				NextStep: next.ReadTaskOrRepeatSameKey, RetryAfter: time.Second,
			}
		}
	}
}

// Submit adds a task to a pool. When it returns without error the task is
// durable and in the order; existing says that an earlier request with the same
// idempotency key made it.
func (c *Client) Submit(ctx context.Context, pool string, m Submit) (task messages.Task, existing bool, err error) {
	r, err := bring(ctx, c, m.Task.Tenant, pool, func(ch chan SubmitReply) any { m.Reply = ch; return &m })
	if err != nil {
		return messages.Task{}, false, err
	}
	return r.Task, r.Existing, r.Err
}

// Cancel cancels a task. For a running one it returns when the flag is durable.
func (c *Client) Cancel(ctx context.Context, tenant, id, reason string) (messages.Task, error) {
	t, err := c.find(ctx, tenant, id)
	if err != nil {
		return t, err
	}
	r, err := ask(ctx, c, t.Pool, func(ch chan TaskReply) any { return Cancel{Tenant: t.Tenant, Task: id, Reason: reason, Reply: ch} })
	return r.Task, first(err, r.Err)
}

// Release ends the wait of a held task.
func (c *Client) Release(ctx context.Context, tenant, id string, a ReleaseAction) (messages.Task, error) {
	t, err := c.find(ctx, tenant, id)
	if err != nil {
		return t, err
	}
	r, err := ask(ctx, c, t.Pool, func(ch chan TaskReply) any { return Release{Tenant: t.Tenant, Task: id, Action: a, Reply: ch} })
	return r.Task, first(err, r.Err)
}

// Replay puts one dead letter back into the order. by names the request, empty for
// none: a task that it has replayed before stays as it is, and done is false.
func (c *Client) Replay(ctx context.Context, tenant, id, by string) (t messages.Task, done bool, err error) {
	if t, err = c.find(ctx, tenant, id); err != nil || t.WasReplayedBy(by, messages.Now()) {
		return t, false, err
	}
	r, err := bring(ctx, c, t.Tenant, t.Pool, func(ch chan SubmitReply) any { return Replay{Task: t, By: by, Reply: ch} })
	err = first(err, r.Err)
	return r.Task, err == nil, err
}

// replayPage bounds the replays that are under way at once.
const replayPage = 256

// ReplayAll puts all dead letters that match the filter back into the order, a
// page at a time, and returns how many matched and how many were put back. A
// dry run counts by the same rule. It ends early, with what was done so far and
// the reason, when a queue is full or ctx ends; calling it again goes on. What the
// request by, empty for none, has replayed before does not match.
func (c *Client) ReplayAll(ctx context.Context, f persistence.TaskFilter, by string, dryRun bool) (matched, done int, err error) {
	f.States = []messages.TaskState{messages.DeadLetter}
	for cursor := ""; ; {
		page, next, err := c.Store.Tasks(ctx, f, cursor, replayPage)
		if err != nil {
			return matched, done, unavailable(err)
		}
		m, n, err := c.replayAll(ctx, page, by, dryRun)
		matched, done = matched+m, done+n
		if err != nil || next == "" {
			return matched, done, err
		}
		cursor = next
	}
}

func (c *Client) replayAll(ctx context.Context, page []messages.Task, by string, dryRun bool) (matched, done int, err error) {
	now, answers, sent := messages.Now(), make(chan SubmitReply, len(page)), 0
	var early error
	for _, t := range page {
		if !t.NotAfter.IsZero() && !t.NotAfter.After(now) || t.WasReplayedBy(by, now) {
			continue // it would only expire, or was put back before
		}
		pid, leave, err := c.Entry(ctx, t.Tenant, t.Pool)
		if messages.CodeOf(err) == messages.CodeInvalid {
			continue // its pool is gone, or somebody else's by now
		}
		if early = err; early != nil {
			break
		}
		defer leave()
		matched++
		if !dryRun {
			c.Send.Send(pid, Replay{Task: t, By: by, Reply: answers})
			sent++
		}
	}
	done, err = c.collect(ctx, answers, sent)
	return matched, done, first(early, err)
}

// collect waits for the answers of one page. A task that changed meanwhile is
// not counted and no error.
func (c *Client) collect(ctx context.Context, answers <-chan SubmitReply, sent int) (done int, err error) {
	for range sent {
		r, unanswered := answer(ctx, c, answers, nil)
		if unanswered != nil {
			return done, unanswered
		}
		switch code := messages.CodeOf(r.Err); {
		case r.Err == nil:
			done++
		case code != messages.CodeConflict && code != messages.CodeWrongState && err == nil:
			err = r.Err
		}
	}
	return done, err
}

// OpenSession creates a session in a pool, or returns it when the pool has it.
func (c *Client) OpenSession(ctx context.Context, pool, tenant, id string, labels map[string]string) (messages.Session, bool, error) {
	r, err := bring(ctx, c, tenant, pool, func(ch chan SessionReply) any {
		return OpenSession{Tenant: tenant, Session: id, Labels: labels, Reply: ch}
	})
	return r.Session, r.Created, first(err, r.Err)
}

// CloseSession ends a session without open tasks.
func (c *Client) CloseSession(ctx context.Context, tenant, id string) (messages.Session, error) {
	return c.onSession(ctx, tenant, id, func(ch chan SessionReply) any {
		return CloseSession{Tenant: tenant, Session: id, Reply: ch}
	})
}

// MoveSession binds a session to another gateway (empty: any).
func (c *Client) MoveSession(ctx context.Context, tenant, id, gateway string, force bool) (messages.Session, error) {
	return c.onSession(ctx, tenant, id, func(ch chan SessionReply) any {
		return MoveSession{Tenant: tenant, Session: id, Gateway: gateway, Force: force, Reply: ch}
	})
}

// UnparkSession lets a parked session work again.
func (c *Client) UnparkSession(ctx context.Context, tenant, id string) (messages.Session, error) {
	return c.onSession(ctx, tenant, id, func(ch chan SessionReply) any {
		return UnparkSession{Tenant: tenant, Session: id, Reply: ch}
	})
}

// RetireSessions closes and removes sessions of a pool whose time is over.
func (c *Client) RetireSessions(ctx context.Context, pool string, m RetireSessions) (Retired, error) {
	r, err := ask(ctx, c, pool, func(ch chan Retired) any { m.Reply = ch; return m })
	return r, first(err, r.Err)
}

func (c *Client) onSession(ctx context.Context, tenant, id string, m func(chan SessionReply) any) (messages.Session, error) {
	s, err := c.Store.Session(ctx, tenant, id)
	switch {
	case errors.Is(err, persistence.ErrNotFound):
		return s, refuse(messages.CodeNotFound, "there is no such session", next.CheckIDAndTenant)
	case err != nil:
		return s, unavailable(err)
	}
	r, err := ask(ctx, c, s.Pool, m)
	return r.Session, first(err, r.Err)
}

// SetPool replaces the configuration of a running pool.
func (c *Client) SetPool(ctx context.Context, p messages.Pool) error {
	r, err := ask(ctx, c, p.ID, func(ch chan error) any { return SetPool{Pool: p, Reply: ch} })
	return first(err, r)
}

// QueueStats returns the true depths of a pool.
func (c *Client) QueueStats(ctx context.Context, pool string) (Stats, error) {
	return ask(ctx, c, pool, func(ch chan Stats) any { return QueueStats{Reply: ch} })
}

// Explain says what keeps tasks of a pool, by their id: only those that wait
// and that something keeps. An empty tenant of a task is any.
func (c *Client) Explain(ctx context.Context, pool string, tasks ...TaskRef) (map[string]Explanation, error) {
	until, _ := ctx.Deadline()
	return ask(ctx, c, pool, func(ch chan map[string]Explanation) any { return Explain{Tasks: tasks, Until: until, Reply: ch} })
}

func (c *Client) find(ctx context.Context, tenant, id string) (messages.Task, error) {
	t, err := c.Store.Task(ctx, tenant, id)
	switch {
	case errors.Is(err, persistence.ErrNotFound):
		return t, refuse(messages.CodeNotFound, "there is no such task", next.CheckID)
	case err != nil:
		return t, unavailable(err)
	}
	return t, nil
}

// ask sends one command and waits for its answer.
func ask[T any](ctx context.Context, c *Client, pool string, m func(chan T) any) (T, error) {
	pid, err := c.Pool(ctx, pool)
	return tell(ctx, c, pool, pid, err, m)
}

// bring is ask for what a tenant brings.
func bring[T any](ctx context.Context, c *Client, tenant, pool string, m func(chan T) any) (T, error) {
	pid, done, err := c.Entry(ctx, tenant, pool)
	if err == nil {
		defer done()
	}
	return tell(ctx, c, pool, pid, err, m)
}

func tell[T any](ctx context.Context, c *Client, pool string, pid *actor.PID, err error, m func(chan T) any) (T, error) {
	if err != nil {
		var zero T
		return zero, err
	}
	ch := make(chan T, 1)
	c.Send.Send(pid, m(ch))
	return answer(ctx, c, ch, c.left(pool))
}

func (c *Client) left(pool string) <-chan struct{} {
	if c.Left == nil {
		return nil
	}
	return c.Left(pool)
}

// first returns the error of the asking, else that of the answer.
func first(asked, answered error) error {
	if asked != nil {
		return asked
	}
	return answered
}

// timedOut says why nobody waits any longer. Only a deadline means that the pool
// was slow; what else ended ctx is for the caller to tell.
func timedOut(ctx context.Context) error {
	if !errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return fmt.Errorf("ask the pool: %w", ctx.Err())
	}
	return &messages.Error{
		Code: messages.CodeTimeout, Message: "the pool did not answer in time; what was asked for may still happen",
		NextStep: next.ReadTaskOrRepeatSameKey, RetryAfter: time.Second, Err: ctx.Err(),
	}
}
