// Package servertest is an in-memory stand-in for what the API commands, for
// tests of the server and of its clients. It keeps the promises of
// server.Commands as far as one process without gateways can: tasks stay
// queued until a test moves them with Finish. It starts no goroutine.
package servertest

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/dash-fleet/dash/http/server"
	"github.com/dash-fleet/dash/messages"
)

// Fake implements every interface of server.Commands. Its fields may be set
// before it is used.
type Fake struct {
	// QueueLimit refuses submits beyond so many queued tasks; 0: none.
	QueueLimit int
	// Fail, when set, is asked before each command; an error it returns is the command's.
	Fail func(ctx context.Context, command string) error

	mu       sync.Mutex
	tasks    map[string]*server.Task
	order    []string // oldest first
	keys     map[string]idem
	waiters  map[string][]chan struct{}
	gateways map[string]server.Gateway
	sessions map[string]messages.Session
	pools    map[string]messages.Pool
	apiKeys  map[string]server.Key
	users    map[string]server.User
	tenants  map[string]server.Tenant
	audit    []server.AuditRow // oldest first
	checks   []server.Check
	log      []*messages.Event
	trimmed  int64 // entries up to here are gone
	subs     map[*subscription]struct{}
	words    map[string]*words
}

type idem struct {
	hash []byte
	task string
}

// New returns an empty fake with the pool "default".
func New() *Fake {
	return &Fake{
		tasks: map[string]*server.Task{}, keys: map[string]idem{}, waiters: map[string][]chan struct{}{},
		gateways: map[string]server.Gateway{}, sessions: map[string]messages.Session{},
		pools:   map[string]messages.Pool{"default": {ID: "default", Tenant: "default", Version: 1, CreatedAt: messages.Now()}},
		apiKeys: map[string]server.Key{}, users: map[string]server.User{},
		tenants: map[string]server.Tenant{"default": {ID: "default", Name: "default", Version: 1, CreatedAt: messages.Now()}},
		checks:  []server.Check{{Name: "store", OK: true, Detail: "writes in 1 ms"}},
		subs:    map[*subscription]struct{}{}, words: map[string]*words{},
	}
}

// Commands returns the fake in all its roles.
func (f *Fake) Commands() server.Commands {
	return server.Commands{
		Tasks: (*tasks)(f), Gateways: (*gateways)(f), Sessions: (*sessions)(f), Pools: (*pools)(f),
		Accounts: (*accounts)(f), Audit: (*auditLog)(f),
		Nodes: (*nodes)(f), Health: (*health)(f), Events: (*eventLog)(f), Runs: (*runs)(f),
	}
}

// SetFail sets Fail while the fake is in use.
func (f *Fake) SetFail(fail func(ctx context.Context, command string) error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.Fail = fail
}

func (f *Fake) enter(ctx context.Context, command string) error {
	f.mu.Lock()
	fail := f.Fail
	f.mu.Unlock()
	if fail == nil {
		return nil
	}
	return fail(ctx, command)
}

// PutTask stores a task as it is.
func (f *Fake) PutTask(t messages.Task) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, ok := f.tasks[t.ID]; !ok {
		f.order = append(f.order, t.ID)
	}
	f.tasks[t.ID] = &server.Task{Task: t}
}

// PutGateway stores a gateway as it is.
func (f *Fake) PutGateway(g server.Gateway) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.gateways[g.Config.ID] = g
}

// PutSession stores a session as it is.
func (f *Fake) PutSession(s messages.Session) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.sessions[s.Tenant+"/"+s.ID] = s
}

// PutPool stores a pool as it is.
func (f *Fake) PutPool(p messages.Pool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.pools[p.ID] = p
}

// PutKey stores an API key as it is.
func (f *Fake) PutKey(k server.Key) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.apiKeys[k.ID] = k
}

// PutUser stores a user as it is.
func (f *Fake) PutUser(u server.User) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.users[u.ID] = u
}

// Audit returns the changes that were recorded, oldest first.
func (f *Fake) Audit() []server.AuditRow {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.audit)
}

// SetChecks replaces the readiness checks.
func (f *Fake) SetChecks(c ...server.Check) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.checks = c
}

// Change moves a task and publishes its event; change may be nil.
func (f *Fake) Change(id string, to messages.TaskState, change func(*messages.Task)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	t := f.tasks[id]
	from := t.State
	t.State = to
	if to.Terminal() {
		t.FinishedAt = messages.Now()
	}
	if change != nil {
		change(&t.Task)
	}
	f.publish(t.Event(from, messages.Now(), ""))
	if to.Terminal() {
		for _, w := range f.waiters[id] {
			close(w)
		}
		delete(f.waiters, id)
	}
}

// Finish makes a task succeed with a text.
func (f *Fake) Finish(id, text string) {
	f.Change(id, messages.Succeeded, func(t *messages.Task) {
		t.Claim, t.Attempt, t.Gateway, t.StartedAt = 1, 1, "gw-1", messages.Now()
		t.Result = &messages.TaskResult{Text: text, InputTokens: 3, OutputTokens: 5}
	})
}

func refuse(code messages.Code, format string, args ...any) error {
	return &messages.Error{Code: code, Message: fmt.Sprintf(format, args...), NextStep: "read it and decide anew"}
}

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
		t.Pool = messages.DefaultPool
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

func (f *tasks) Task(ctx context.Context, tenant, id string) (server.Task, error) {
	if err := (*Fake)(f).enter(ctx, "Task"); err != nil {
		return server.Task{}, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	t, err := f.find(tenant, id)
	if err != nil {
		return server.Task{}, err
	}
	return *t, nil
}

func matches(f server.TaskFilter, t *server.Task) bool {
	v, labelled := t.Spec.GetLabels()[f.LabelKey]
	return (f.Tenant == "" || f.Tenant == t.Tenant) && (len(f.States) == 0 || slices.Contains(f.States, t.State)) &&
		(f.Class == 0 || f.Class == t.Class) && (f.Pool == "" || f.Pool == t.Pool) &&
		(f.Session == "" || f.Session == t.Session) && (f.Gateway == "" || f.Gateway == t.Gateway) &&
		(f.Code == "" || f.Code == t.Error.GetCode()) && (f.LabelKey == "" || labelled) &&
		(f.LabelValue == "" || f.LabelValue == v) && (f.Before.IsZero() || t.CreatedAt.Before(f.Before)) &&
		(f.After.IsZero() || t.CreatedAt.After(f.After))
}

func (f *tasks) Tasks(ctx context.Context, filter server.TaskFilter, cursor string, limit int) ([]server.Task, string, error) {
	if err := (*Fake)(f).enter(ctx, "Tasks"); err != nil {
		return nil, "", err
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
		if t := f.tasks[id]; matches(filter, t) {
			if len(out) == limit {
				return out, out[limit-1].ID, nil
			}
			out = append(out, *t)
		}
	}
	return out, "", nil
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
		return f.Task(ctx, tenant, id)
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

func (f *tasks) Replay(ctx context.Context, tenant, id string) (server.Task, error) {
	return f.change(ctx, "Replay", tenant, id, func(t *server.Task) error {
		if t.State != messages.DeadLetter {
			return refuse(messages.CodeWrongState, "the task is %s, not dead_letter", t.State)
		}
		t.State, t.Attempt, t.Replays = messages.Queued, 0, t.Replays+1
		return nil
	})
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

func (f *tasks) ReplayDeadLetters(ctx context.Context, filter server.TaskFilter, dryRun bool) (matched, replayed int, err error) {
	if err := (*Fake)(f).enter(ctx, "ReplayDeadLetters"); err != nil {
		return 0, 0, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	filter.States = []messages.TaskState{messages.DeadLetter}
	for _, id := range f.order {
		if t := f.tasks[id]; matches(filter, t) {
			matched++
			if !dryRun {
				t.State, t.Replays = messages.Queued, t.Replays+1
				replayed++
			}
		}
	}
	return matched, replayed, nil
}

func (f *tasks) Queue(ctx context.Context, tenant, pool string) ([]server.QueueClass, error) {
	if err := (*Fake)(f).enter(ctx, "Queue"); err != nil {
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	var out []server.QueueClass
	for _, p := range sorted(f.pools) {
		if (pool != "" && p.ID != pool) || (tenant != "" && p.Tenant != tenant) {
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

// sorted returns the values in the order of their keys.
func sorted[V any](m map[string]V) []V {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.SortFunc(keys, strings.Compare)
	out := make([]V, len(keys))
	for i, k := range keys {
		out[i] = m[k]
	}
	return out
}
