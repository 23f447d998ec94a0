package backuptest

import (
	"crypto/sha256"
	"fmt"
	"testing"
	"time"

	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/persistence"
)

const (
	lease = time.Hour
	// keyed is the task with an idempotency key.
	keyed = "task-1"
)

func newTask(id string) messages.Task {
	return messages.Task{
		ID: id, Tenant: "default", Pool: "default", Class: messages.High, Seq: 1, State: messages.Queued,
		Spec:      &messages.TaskSpec{Message: "do " + id, MaxAttempts: 3, Labels: map[string]string{"team": "a"}},
		CreatedAt: messages.Now(),
	}
}

// fill puts something into every section.
func fill(t *testing.T, s Store) {
	t.Helper()
	ctx, r := t.Context(), s.Repositories()
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatalf("fill: %v", err)
		}
	}
	at := messages.Now()
	_, err := r.Tenants.Create(ctx, messages.Tenant{ID: "acme", Name: "Acme", CreatedAt: at})
	check(err)
	_, err = r.Users.Create(ctx, persistence.User{User: messages.User{ID: "u1", Email: "a@example.com", Role: "admin", CreatedAt: at}, PasswordHash: []byte("$2a$12$x")})
	check(err)
	check(r.LoginSessions.Create(ctx, persistence.LoginSession{ID: "l1", UserID: "u1", TokenHash: sha256.Sum256([]byte("t")), ExpiresAt: at.Add(time.Hour), CreatedAt: at}))
	check(r.Keys.Create(ctx, persistence.Key{Key: messages.Key{ID: "k1", Name: "one", Permissions: []string{"tasks:read"}, RateLimit: 7, CreatedAt: at, ExpiresAt: at.Add(time.Hour), Active: true}, Hash: []byte("$2a$12$y"), Digest: []byte("digest")}))
	check(r.Keys.Create(ctx, persistence.Key{Key: messages.Key{ID: "k0", Name: "two", Parent: "k1", Tenant: "acme", RateLimit: 100, CreatedAt: at, Active: true}, Hash: []byte("$2a$12$z")}))
	_, err = r.Keys.Revoke(ctx, "k0", false)
	check(err)
	for range 3 {
		_, err = r.Audit.Append(ctx, persistence.AuditEntry{Time: at, Actor: "key:k1", Action: "createTask", Target: "x", Detail: `{"a":1}`})
		check(err)
	}
	g, err := r.Gateways.Create(ctx, messages.Gateway{
		ID: "gw", Tenant: "default", Pool: "default", URL: "ws://127.0.0.1:1/", Token: "secret", MaxConcurrency: 4, Weight: 1,
		Labels: map[string]string{"a": "b"}, Capabilities: []string{"web"}, CreatedAt: at,
		Managed: &messages.Managed{Command: []string{"/bin/openclaw"}, Port: 1, Env: map[string]string{"A": "b"}},
	})
	check(err)
	g.Drained = true
	_, err = r.Gateways.Update(ctx, g)
	check(err)
	_, err = r.Pools.Put(ctx, messages.Pool{
		ID: "default", Tenant: "default", MaxConcurrency: 9, AwaySeconds: 5, CreatedAt: at,
		Limits: map[messages.Class]messages.ClassLimit{messages.High: {Count: 3, Bytes: 4}}, Reserved: map[messages.Class]int{messages.Low: 1},
	})
	check(err)
	fillTasks(t, s, at)
}

func fillTasks(t *testing.T, s Store, at time.Time) {
	ctx := t.Context()
	if _, err := s.Store().Renew(ctx, messages.Node{ID: "n1"}, lease); err != nil {
		t.Fatal(err)
	}
	var fences []messages.Fence
	for scope, key := range map[messages.Scope]string{messages.ShardScope: "7", messages.GatewayScope: "gw"} {
		f, err := s.Store().Take(ctx, scope, key, "n1")
		if err != nil {
			t.Fatal(err)
		}
		fences = append(fences, f)
	}
	commit := func(op persistence.Op) {
		t.Helper()
		op.Fences = fences
		out, err := s.Store().Commit(ctx, []persistence.Op{op})
		if err != nil || out[0].Status != persistence.OK {
			t.Fatalf("commit: %v %v", out, err)
		}
	}
	for i := 1; i <= 20; i++ {
		task := newTask(fmt.Sprintf("task-%d", i))
		task.Seq, task.Session = int64(i), fmt.Sprintf("s-%d", i%3)
		insert := &persistence.TaskInsert{Task: task}
		if task.ID == keyed {
			insert.IdemKey, insert.IdemHash = "key", []byte("hash")
		}
		if i == 2 { // a spec too large for the row, created in the past
			insert.Task.Spec.Message, insert.Task.CreatedAt = string(make([]byte, 5000)), at.Add(-time.Hour)
		}
		commit(persistence.Op{Insert: insert, Events: []*messages.Event{event(task.ID, "queued"), event(task.ID, "again")}})
		if i%2 == 0 {
			continue
		}
		task.State, task.Claim, task.Attempt, task.Gateway, task.BootID, task.ClaimedAt = messages.Claimed, 1, 1, "gw", "boot", at
		commit(persistence.Op{Update: &persistence.TaskUpdate{Task: task, From: messages.Queued}, Events: []*messages.Event{event(task.ID, "claimed")}})
		if i%4 == 3 {
			commit(persistence.Op{Cancel: &persistence.CancelRequest{Tenant: task.Tenant, Task: task.ID, At: at, Reason: "no"}})
			continue
		}
		task.State, task.FinishedAt, task.Result = messages.Succeeded, at, &messages.TaskResult{Text: "done", OutputTokens: 3}
		if i%8 == 1 {
			task.State, task.Result, task.Error = messages.DeadLetter, nil, &messages.TaskError{Code: "provider_rejected", Message: "no"}
		}
		commit(persistence.Op{Update: &persistence.TaskUpdate{Task: task, From: messages.Claimed, FromClaim: 1}, Events: []*messages.Event{event(task.ID, "ended")}})
	}
	for i := range 3 {
		commit(persistence.Op{Session: &persistence.SessionWrite{AnyGeneration: true, Session: messages.Session{
			Tenant: "default", ID: fmt.Sprintf("s-%d", i), Pool: "default", Gateway: "gw", Generation: int64(i), Labels: map[string]string{"a": "b"}, CreatedAt: at, UpdatedAt: at,
		}}})
	}
	commit(persistence.Op{Gateway: &messages.GatewayStatus{ID: "gw", Tenant: "default", Owner: "n1", Epoch: 1, BootID: "boot", Window: 4, PID: 1, Since: at}})
}

func event(task, state string) *messages.Event {
	return &messages.Event{
		Type: "task.state", Tenant: "default", Subject: task, TimeMicros: messages.Now().UnixMicro(),
		Data: &messages.Event_Task{Task: &messages.TaskChanged{Pool: "default", State: state}},
	}
}

// content is everything that can be read from a store.
type content struct {
	Tenants     []messages.Tenant
	Users       []persistence.User
	Logins      []persistence.LoginSession
	Keys        []persistence.Key
	Audit       []persistence.AuditEntry
	Gateways    []messages.Gateway
	Tokens      []string // messages.Secret compares as a mask in a diff
	Pools       []messages.Pool
	Owners      []messages.Ownership
	Statuses    []messages.GatewayStatus
	Sessions    []messages.Session
	Tasks       []messages.Task
	Transcripts [][]messages.Task
	Labelled    int
	Open        []messages.Task
	MaxSeq      int64
	Events      []*messages.Event
	LastSeq     int64
}

func view(t *testing.T, s Store) (c content) {
	t.Helper()
	ctx, st, r := t.Context(), s.Store(), s.Repositories()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatalf("read: %v", err)
		}
	}
	var err error
	c.Tenants, err = r.Tenants.List(ctx)
	must(err)
	for i := range c.Tenants {
		if c.Tenants[i].ID == messages.DefaultTenant {
			c.Tenants[i].CreatedAt = time.Time{} // made anew with each store
		}
	}
	c.Users, err = r.Users.List(ctx)
	must(err)
	c.Logins, err = r.LoginSessions.List(ctx, "u1")
	must(err)
	c.Keys, err = r.Keys.List(ctx)
	must(err)
	c.Audit, err = r.Audit.List(ctx, persistence.AuditFilter{})
	must(err)
	c.Gateways, err = r.Gateways.List(ctx)
	must(err)
	for _, g := range c.Gateways {
		c.Tokens = append(c.Tokens, g.Token.Reveal())
	}
	c.Pools, err = r.Pools.List(ctx)
	must(err)
	for _, scope := range []messages.Scope{messages.ShardScope, messages.GatewayScope} {
		owners, err := st.Owners(ctx, scope)
		must(err)
		c.Owners = append(c.Owners, owners...)
	}
	viewTasks(t, st, &c)
	return c
}

func viewTasks(t *testing.T, st persistence.Store, c *content) {
	t.Helper()
	ctx := t.Context()
	var errs [8]error
	c.Statuses, errs[0] = st.GatewayStatuses(ctx)
	c.Sessions, errs[1] = st.Sessions(ctx, "", "", "", 0)
	c.Tasks, _, errs[2] = st.Tasks(ctx, persistence.TaskFilter{}, "", 0)
	labelled, _, err := st.Tasks(ctx, persistence.TaskFilter{LabelKey: "team", LabelVal: "a"}, "", 0)
	c.Labelled, errs[3] = len(labelled), err
	c.Open, _, errs[4] = st.OpenTasks(ctx, "default", "", 0)
	c.MaxSeq, errs[5] = st.MaxSeq(ctx, "default")
	c.Events, _, errs[6] = st.Events(ctx, 0, 0)
	c.LastSeq, errs[7] = st.LastSeq(ctx)
	for i := range 3 {
		list, _, err := st.Transcript(ctx, "default", fmt.Sprintf("s-%d", i), "", 0)
		if err != nil {
			t.Fatalf("read transcript: %v", err)
		}
		c.Transcripts = append(c.Transcripts, list)
	}
	for _, err := range errs {
		if err != nil {
			t.Fatalf("read: %v", err)
		}
	}
}
