// Package requests carries out what the API asks for: it turns requests into
// messages to the owners of pools and gateways, and reads of the store.
package requests

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"time"

	"github.com/dash-fleet/dash/actors/dispatch"
	"github.com/dash-fleet/dash/actors/feed"
	"github.com/dash-fleet/dash/cmd/internal/accounts"
	"github.com/dash-fleet/dash/http/server"
	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/messages/next"
	"github.com/dash-fleet/dash/persistence"
)

// Tasks implements server.Tasks.
type Tasks struct {
	Store   persistence.Store
	Tenants *accounts.Tenants
	Owners  *dispatch.Client // of pools
	Feed    *feed.Feed
	// Pools lists the pools that a tenant, empty for all, has.
	Pools func(ctx context.Context, tenant string) ([]messages.Pool, error)
	// Absent reports whether a pool has no owner here, although this node works. Away
	// says then why it has none; nil: it is a tenant's own one that nobody has used.
	Absent func(pool string) bool
	Away   func(pool string) error
}

// Submit implements server.Tasks.
func (c *Tasks) Submit(ctx context.Context, r server.SubmitRequest) (server.Submitted, error) {
	if err := sessionName(r.Session); err != nil {
		return server.Submitted{}, err
	}
	if err := c.Tenants.Exists(ctx, r.Tenant); err != nil {
		return server.Submitted{}, err
	}
	pool, err := c.poolOf(ctx, r)
	if err != nil {
		return server.Submitted{}, err
	}
	t := messages.Task{
		ID: messages.NewID(), Tenant: r.Tenant, Pool: pool, Class: r.Class, Session: r.Session, Spec: r.Spec,
		DueAt: r.DueAt, NotAfter: r.NotAfter, CreatedAt: messages.Now(),
	}
	stored, existing, err := c.Owners.Submit(ctx, pool, dispatch.Submit{Task: t, IdemKey: r.IdemKey, IdemHash: r.IdemHash})
	if r.Pool == "" && errors.Is(err, ErrNoPool) {
		err = elsewhere(messages.CodeWrongPool, "session "+r.Session, pool, next.NewSessionID)
	}
	return server.Submitted{Task: server.Task{Task: stored}, Replayed: existing}, err
}

// elsewhere refuses to go on with what an earlier release put into a pool that is
// not its tenant's: nobody named that pool now.
func elsewhere(code messages.Code, what, pool, step string) error {
	return &messages.Error{Code: code, Message: "the " + what + " is in the pool " + pool + ", which is not its tenant's", NextStep: step}
}

// poolOf is the pool named, else that of the session, else the tenant's own.
func (c *Tasks) poolOf(ctx context.Context, r server.SubmitRequest) (string, error) {
	switch {
	case r.Pool != "":
		return r.Pool, nil
	case r.Session == "":
		return messages.OwnPool(r.Tenant), nil
	}
	s, err := c.Store.Session(ctx, r.Tenant, r.Session)
	if errors.Is(err, persistence.ErrNotFound) {
		return messages.OwnPool(r.Tenant), nil
	}
	if err != nil {
		return "", persistence.Refusal(err, "session", r.Session)
	}
	return s.Pool, nil
}

// Task implements server.Tasks.
func (c *Tasks) Task(ctx context.Context, tenant, id string, bodies bool) (server.Task, error) {
	read := c.Store.TaskBrief
	if bodies {
		read = c.Store.Task
	}
	t, err := read(ctx, tenant, id)
	if err != nil {
		return server.Task{}, persistence.Refusal(err, "task", id)
	}
	return c.explained(ctx, []messages.Task{t})[0], nil
}

// explainTime bounds how long a task or a list waits for what pools' owners
// know. They answer within microseconds, unless they are busy or starting.
const explainTime = 250 * time.Millisecond

// explained adds what keeps tasks. What waits, or is at a gateway out of reach, is
// known by its pool's owner alone: each is asked once for all of them, and without an answer in time they are
// shown without it.
func (c *Tasks) explained(ctx context.Context, tasks []messages.Task) []server.Task {
	out := make([]server.Task, len(tasks))
	waiting := map[string][]dispatch.TaskRef{} // by pool
	for i, t := range tasks {
		out[i].Task = t
		switch {
		case t.State == messages.Held:
			out[i].WaitingCode, out[i].WaitingReason = messages.WaitsHeld, heldReason(t)
		case t.State.AtGateway() || t.State.Waiting():
			waiting[t.Pool] = append(waiting[t.Pool], dispatch.TaskRef{Tenant: t.Tenant, ID: t.ID})
		}
	}
	known := c.ask(ctx, waiting)
	for i := range out {
		if t := &out[i].Task; t.State.AtGateway() {
			out[i].WaitingCode, out[i].WaitingReason = c.Feed.TroubleOf(t.ID, t.Claim)
		}
		if x, ok := known[out[i].ID]; ok {
			out[i].BlockedBy, out[i].WaitingCode, out[i].WaitingReason = x.BlockedBy, x.Code, x.Reason
		}
	}
	return out
}

// ask asks all pools at once what keeps their tasks.
func (c *Tasks) ask(ctx context.Context, waiting map[string][]dispatch.TaskRef) map[string]dispatch.Explanation {
	ctx, cancel := context.WithTimeout(ctx, explainTime)
	defer cancel()
	answers := make(chan map[string]dispatch.Explanation, len(waiting))
	for pool, tasks := range waiting {
		go func() {
			// A pool that nobody here owns, or that is slow, tells nothing.
			x, err := c.Owners.Explain(ctx, pool, tasks...)
			if err != nil {
				x = nil
			}
			answers <- x
		}()
	}
	known := map[string]dispatch.Explanation{}
	for range waiting {
		maps.Copy(known, <-answers)
	}
	return known
}

func heldReason(t messages.Task) string {
	return "the outcome of its run is not known: it is held for an answer until " + t.DueAt.UTC().Format(time.RFC3339) +
		", then it is a dead letter; " + fmt.Sprintf(next.ReleaseTask, t.ID) + " decides now"
}

func filter(f server.TaskFilter) persistence.TaskFilter {
	return persistence.TaskFilter{
		Tenant: f.Tenant, States: f.States, Class: f.Class, Pool: f.Pool, Session: f.Session, Gateway: f.Gateway,
		Code: f.Code, LabelKey: f.LabelKey, LabelVal: f.LabelValue, Before: f.Before, After: f.After,
		IDBegin: f.IDBegin, IDEnd: f.IDEnd, Brief: !f.Bodies,
	}
}

// Tasks implements server.Tasks: each pool's owner is asked once for a page.
func (c *Tasks) Tasks(ctx context.Context, f server.TaskFilter, cursor string, limit int) (server.TaskList, error) {
	rows, next, err := c.Store.Tasks(ctx, filter(f), cursor, limit)
	if err != nil {
		return server.TaskList{}, persistence.Refusal(err, "task", "")
	}
	out := server.TaskList{Tasks: c.explained(ctx, rows), Next: next}
	if next != "" && len(rows) < limit && f.IDBegin+f.IDEnd != "" {
		out.SearchedTo = persistence.SearchedTo(next)
	}
	return out, nil
}

// WaitTask implements server.Tasks.
func (c *Tasks) WaitTask(ctx context.Context, tenant, id string) (server.Task, error) {
	ended, stop := c.Feed.AwaitEnd(id)
	defer stop()
	t, err := c.Store.TaskBrief(ctx, tenant, id)
	if err != nil || t.State.Terminal() {
		return server.Task{Task: t}, persistence.Refusal(err, "task", id)
	}
	select {
	case <-ended:
		return c.Task(ctx, tenant, id, false)
	case <-ctx.Done():
		return server.Task{Task: t}, ctx.Err()
	}
}

// Cancel implements server.Tasks.
func (c *Tasks) Cancel(ctx context.Context, tenant, id, reason string) (server.Task, error) {
	t, err := c.Owners.Cancel(ctx, tenant, id, reason)
	if err != nil {
		return server.Task{}, err
	}
	// The pool's owner does not hear of RUNNING, so its copy of a task that
	// runs is older than what the store says.
	if now, err := c.Task(ctx, tenant, id, true); err == nil {
		return now, nil
	}
	return server.Task{Task: t}, nil
}

// Release implements server.Tasks.
func (c *Tasks) Release(ctx context.Context, tenant, id string, fail bool) (server.Task, error) {
	action := dispatch.ReleaseRequeue
	if fail {
		action = dispatch.ReleaseFail
	}
	t, err := c.Owners.Release(ctx, tenant, id, action)
	return server.Task{Task: t}, err
}

// Replay implements server.Tasks.
func (c *Tasks) Replay(ctx context.Context, tenant, id, once string) (server.Task, bool, error) {
	t, done, err := c.Owners.Replay(ctx, tenant, id, once)
	if errors.Is(err, ErrNoPool) {
		if old, rerr := c.Store.TaskBrief(ctx, tenant, id); rerr == nil && old.Pool == messages.DefaultPool {
			err = elsewhere(messages.CodeWrongState, "task", old.Pool, next.SubmitNew)
		}
	}
	return server.Task{Task: t}, done, err
}

// ReplayDeadLetters implements server.Tasks.
func (c *Tasks) ReplayDeadLetters(ctx context.Context, f server.TaskFilter, once string, dryRun bool) (matched, replayed int, err error) {
	if dryRun {
		return c.Owners.ReplayAll(ctx, filter(f), once, true)
	}
	if matched, _, err = c.Owners.ReplayAll(ctx, filter(f), once, true); err != nil {
		return matched, 0, err
	}
	_, replayed, err = c.Owners.ReplayAll(ctx, filter(f), once, false)
	if messages.CodeOf(err) == messages.CodeQueueFull {
		err = nil // what fits was put back; the two numbers say the rest
	}
	return matched, replayed, err
}

// Queue implements server.Tasks.
func (c *Tasks) Queue(ctx context.Context, tenant, pool, from string) ([]server.QueueClass, error) {
	pools, err := c.Pools(ctx, tenant)
	if err != nil {
		return nil, err
	}
	now := messages.Now()
	var out []server.QueueClass
	for _, p := range pools {
		if p.ID < from || pool != "" && pool != p.ID || pool == "" && c.Absent(p.ID) {
			continue
		}
		classes, err := c.classes(ctx, p)
		if err != nil && c.Absent(p.ID) && (pool == "" || c.Away(p.ID) == nil) {
			continue // it was removed meanwhile
		}
		if err != nil {
			return nil, err
		}
		for _, cl := range classes {
			q := server.QueueClass{Pool: p.ID, Tenant: p.Tenant, Class: cl.Class, Depth: cl.Queued, Bytes: cl.Bytes, Running: cl.Running, Limit: cl.Limit, Warning: cl.Starved}
			if !cl.Oldest.IsZero() {
				q.OldestAge = now.Sub(cl.Oldest)
			}
			out = append(out, q)
		}
	}
	return out, nil
}

func (c *Tasks) classes(ctx context.Context, p messages.Pool) ([]dispatch.ClassStats, error) {
	if !c.Absent(p.ID) || c.Away(p.ID) != nil {
		s, err := c.Owners.QueueStats(ctx, p.ID)
		return s.Classes, err
	}
	var list []dispatch.ClassStats
	for _, class := range messages.Classes {
		list = append(list, dispatch.ClassStats{Class: class, Limit: p.Limit(class)})
	}
	return list, nil
}
