// Package servertest is an in-memory stand-in for what the API commands, for
// tests of the server and of its clients. It keeps the promises of
// server.Commands as far as one process without gateways can: tasks stay
// queued until a test moves them with Finish. It starts no goroutine.
package servertest

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/dash-fleet/dash/http/server"
	"github.com/dash-fleet/dash/messages"
)

// Fake implements every interface of server.Commands. Its fields may be set
// before it is used.
type Fake struct {
	// QueueLimit refuses submits beyond so many queued tasks; 0: none.
	QueueLimit int
	// SearchEarly is the task at which a search by the end of ids ends its page early.
	SearchEarly string
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
	apiKeys  map[string]messages.Key
	keysOnce map[string]string // ids by the wish for the key
	users    map[string]messages.User
	tenants  map[string]messages.Tenant
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
		apiKeys: map[string]messages.Key{}, keysOnce: map[string]string{}, users: map[string]messages.User{},
		tenants: map[string]messages.Tenant{"default": {ID: "default", Name: "default", Version: 1, CreatedAt: messages.Now()}},
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
func (f *Fake) PutKey(k messages.Key) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.apiKeys[k.ID] = k
}

// PutUser stores a user as it is.
func (f *Fake) PutUser(u messages.User) {
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
