package servertest

import (
	"bytes"
	"context"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/dash-fleet/dash/http/server"
	"github.com/dash-fleet/dash/messages"
)

type tasks Fake

func (f *tasks) Submit(ctx context.Context, r server.SubmitRequest) (server.Submitted, error) {
	if err := (*Fake)(f).enter(ctx, "Submit"); err != nil {
		return server.Submitted{}, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	key := r.Tenant + "/" + r.IdemKey
	if known, ok := f.keys[key]; ok && r.IdemKey != "" {
		if !bytes.Equal(known.hash, r.IdemHash) {
			return server.Submitted{}, refuse(messages.CodeKeyReused, "the key names another request")
		}
		return server.Submitted{Task: *f.tasks[known.task], Replayed: true}, nil
	}
	if n := len(f.order); f.QueueLimit > 0 && n >= f.QueueLimit {
		return server.Submitted{}, &messages.Error{
			Code: messages.CodeQueueFull, Message: "the queue is full", NextStep: "wait", RetryAfter: 2 * time.Second, Position: n + 1, Limit: f.QueueLimit,
		}
	}
	t := &server.Task{Task: messages.Task{
		ID: messages.NewID(), Tenant: r.Tenant, Pool: r.Pool, Class: r.Class, Session: r.Session, Spec: r.Spec,
		State: messages.Queued, Seq: int64(len(f.order) + 1), DueAt: r.DueAt, NotAfter: r.NotAfter, CreatedAt: messages.Now(),
	}}
	if t.Pool == "" {
		t.Pool = messages.OwnPool(r.Tenant)
	}
	if !t.DueAt.IsZero() {
		t.State = messages.Scheduled
	}
	f.tasks[t.ID] = t
	f.order = append(f.order, t.ID)
	if r.IdemKey != "" {
		f.keys[key] = idem{r.IdemHash, t.ID}
	}
	(*Fake)(f).publish(t.Event(0, t.CreatedAt, ""))
	return server.Submitted{Task: *t}, nil
}

func (f *tasks) find(tenant, id string) (*server.Task, error) {
	t, ok := f.tasks[id]
	if !ok || (tenant != "" && t.Tenant != tenant) {
		return nil, refuse(messages.CodeNotFound, "there is no task %s", id)
	}
	return t, nil
}

func (f *tasks) Task(ctx context.Context, tenant, id string, bodies bool) (server.Task, error) {
	if err := (*Fake)(f).enter(ctx, "Task"); err != nil {
		return server.Task{}, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	t, err := f.find(tenant, id)
	if err != nil {
		return server.Task{}, err
	}
	return short(*t, bodies), nil
}

// short leaves long texts out, as a store does.
func short(t server.Task, bodies bool) server.Task {
	message, text := len(t.Spec.GetMessage()), len(t.Result.GetText())
	if bodies || message+text < 16<<10 {
		return t
	}
	t.Brief = &messages.Brief{Message: int64(message), Text: int64(text)}
	t.Spec = proto.CloneOf(t.Spec)
	t.Spec.Message = ""
	if t.Result != nil {
		t.Result = proto.CloneOf(t.Result)
		t.Result.Text = ""
	}
	return t
}

func matches(f server.TaskFilter, t *server.Task) bool {
	v, labelled := t.Spec.GetLabels()[f.LabelKey]
	return (f.Tenant == "" || f.Tenant == t.Tenant) && (len(f.States) == 0 || slices.Contains(f.States, t.State)) &&
		(f.Class == 0 || f.Class == t.Class) && (f.Pool == "" || f.Pool == t.Pool) &&
		(f.Session == "" || f.Session == t.Session) && (f.Gateway == "" || f.Gateway == t.Gateway) &&
		(f.Code == "" || f.Code == t.Error.GetCode()) && (f.LabelKey == "" || labelled) &&
		(f.LabelValue == "" || f.LabelValue == v) && (f.Before.IsZero() || t.CreatedAt.Before(f.Before)) &&
		(f.After.IsZero() || t.CreatedAt.After(f.After)) && strings.HasPrefix(t.ID, f.IDBegin) && strings.HasSuffix(t.ID, f.IDEnd)
}

func (f *tasks) Tasks(ctx context.Context, filter server.TaskFilter, cursor string, limit int) (server.TaskList, error) {
	if err := (*Fake)(f).enter(ctx, "Tasks"); err != nil {
		return server.TaskList{}, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	var out []server.Task
	skipping := cursor != ""
	for _, id := range slices.Backward(f.order) {
		if skipping {
			skipping = id != cursor
			continue
		}
		t := f.tasks[id]
		if f.SearchEarly == id && filter.IDEnd != "" {
			return server.TaskList{Tasks: out, Next: id, SearchedTo: t.CreatedAt}, nil
		}
		if matches(filter, t) {
			if len(out) == limit {
				return server.TaskList{Tasks: out, Next: out[limit-1].ID}, nil
			}
			out = append(out, short(*t, filter.Bodies))
		}
	}
	return server.TaskList{Tasks: out}, nil
}

func (f *tasks) WaitTask(ctx context.Context, tenant, id string) (server.Task, error) {
	if err := (*Fake)(f).enter(ctx, "WaitTask"); err != nil {
		return server.Task{}, err
	}
	f.mu.Lock()
	t, err := f.find(tenant, id)
	if err != nil || t.State.Terminal() {
		defer f.mu.Unlock()
		if err != nil {
			return server.Task{}, err
		}
		return *t, nil
	}
	done := make(chan struct{})
	f.waiters[id] = append(f.waiters[id], done)
	f.mu.Unlock()
	select {
	case <-done:
		return f.Task(ctx, tenant, id, false)
	case <-ctx.Done():
		return server.Task{}, ctx.Err()
	}
}

func (f *tasks) change(ctx context.Context, command, tenant, id string, do func(*server.Task) error) (server.Task, error) {
	if err := (*Fake)(f).enter(ctx, command); err != nil {
		return server.Task{}, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	t, err := f.find(tenant, id)
	if err != nil {
		return server.Task{}, err
	}
	from := t.State
	if err := do(t); err != nil {
		return server.Task{}, err
	}
	if t.State != from {
		(*Fake)(f).publish(t.Event(from, messages.Now(), ""))
	}
	return *t, nil
}

func (f *tasks) Cancel(ctx context.Context, tenant, id, reason string) (server.Task, error) {
	return f.change(ctx, "Cancel", tenant, id, func(t *server.Task) error {
		if t.State == messages.Cancelled {
			return nil
		}
		if t.State.Terminal() {
			return refuse(messages.CodeWrongState, "the task is %s", t.State)
		}
		t.Cancel = messages.Cancel{RequestedAt: messages.Now(), Reason: reason, Confirmed: messages.Confirmed}
		t.State, t.FinishedAt = messages.Cancelled, messages.Now()
		return nil
	})
}

func (f *tasks) Replay(ctx context.Context, tenant, id, once string) (got server.Task, done bool, err error) {
	got, err = f.change(ctx, "Replay", tenant, id, func(t *server.Task) error {
		if t.WasReplayedBy(once, messages.Now()) {
			return nil
		}
		if t.State != messages.DeadLetter {
			return refuse(messages.CodeWrongState, "the task is %s, not dead_letter", t.State)
		}
		t.State, t.Attempt, t.Replays, t.ReplayedBy, t.ReplayedAt = messages.Queued, 0, t.Replays+1, once, messages.Now()
		done = true
		return nil
	})
	return got, done, err
}

func (f *tasks) Release(ctx context.Context, tenant, id string, fail bool) (server.Task, error) {
	return f.change(ctx, "Release", tenant, id, func(t *server.Task) error {
		if t.State != messages.Held {
			return refuse(messages.CodeWrongState, "the task is %s, not held", t.State)
		}
		t.State = messages.Queued
		if fail {
			t.State = messages.DeadLetter
		}
		return nil
	})
}

func (f *tasks) ReplayDeadLetters(ctx context.Context, filter server.TaskFilter, once string, dryRun bool) (matched, replayed int, err error) {
	if err := (*Fake)(f).enter(ctx, "ReplayDeadLetters"); err != nil {
		return 0, 0, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	filter.States = []messages.TaskState{messages.DeadLetter}
	for _, id := range f.order {
		if t := f.tasks[id]; matches(filter, t) && !t.WasReplayedBy(once, messages.Now()) {
			matched++
			if !dryRun {
				t.State, t.Replays, t.ReplayedBy, t.ReplayedAt = messages.Queued, t.Replays+1, once, messages.Now()
				replayed++
			}
		}
	}
	return matched, replayed, nil
}

func (f *tasks) Queue(ctx context.Context, tenant, pool, from string) ([]server.QueueClass, error) {
	if err := (*Fake)(f).enter(ctx, "Queue"); err != nil {
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	var out []server.QueueClass
	for _, p := range sorted(f.pools) {
		if p.ID < from || (pool != "" && p.ID != pool) || (tenant != "" && p.Tenant != tenant) {
			continue
		}
		for _, class := range messages.Classes {
			q := server.QueueClass{Pool: p.ID, Tenant: p.Tenant, Class: class, Limit: p.Limit(class)}
			for _, t := range f.tasks {
				switch {
				case t.Pool != p.ID || t.Class != class:
				case t.State == messages.Queued:
					q.Depth++
					q.Bytes += int64(len(t.Spec.GetMessage()))
					q.OldestAge = max(q.OldestAge, time.Since(t.CreatedAt))
				case t.State.AtGateway():
					q.Running++
				}
			}
			out = append(out, q)
		}
	}
	return out, nil
}
