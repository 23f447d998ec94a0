package storetest

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"testing"

	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/persistence"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/testing/protocmp"
	"pgregory.net/rapid"
)

var modelTests = map[string]func(*testing.T, Engine){"commit behaves as a naive model": commitModel}

// model is Commit said as plainly as possible: each op works on a copy, which
// replaces the state only if every part fits.
type model struct {
	fence    messages.Fence // the only one that holds
	tasks    map[string]messages.Task
	keys     map[string]string // idempotency key -> task
	hashes   map[string]string
	sessions map[string]messages.Session
	events   []string
}

func (m *model) clone() *model {
	c := *m
	c.tasks, c.keys, c.hashes, c.sessions = maps.Clone(m.tasks), maps.Clone(m.keys), maps.Clone(m.hashes), maps.Clone(m.sessions)
	c.events = slices.Clone(m.events)
	return &c
}

func (m *model) commit(ops []persistence.Op) (out []persistence.Outcome) {
	for i := range ops {
		next := m.clone()
		o := next.apply(&ops[i])
		if o.Status == persistence.OK {
			*m = *next
		} else if o.Current != nil { // as it is without this op
			cur := m.tasks[o.Current.ID]
			o.Current = &cur
		}
		out = append(out, o)
	}
	return out
}

func (m *model) apply(op *persistence.Op) persistence.Outcome {
	for _, f := range op.Fences {
		if f != m.fence {
			return persistence.Outcome{Status: persistence.Fenced}
		}
	}
	out := persistence.Outcome{Status: persistence.OK}
	var touched *messages.Task
	switch {
	case op.Insert != nil:
		out = m.insert(op.Insert)
	case op.Update != nil:
		out, touched = m.update(op.Update)
	case op.Cancel != nil:
		out = m.cancel(op.Cancel)
		touched = out.Current
	}
	if out.Status != persistence.OK {
		return out
	}
	if s := op.Session; s != nil {
		old, ok := m.sessions[s.Session.ID]
		fits := s.AnyGeneration || (ok && old.Generation == s.FromGeneration) || (!ok && s.FromGeneration == -1)
		if !fits {
			return persistence.Outcome{Status: persistence.Conflict, Current: touched}
		}
		m.sessions[s.Session.ID] = s.Session
	}
	for _, e := range op.Events {
		m.events = append(m.events, e.Subject)
	}
	return out
}

func (m *model) insert(in *persistence.TaskInsert) persistence.Outcome {
	if id, taken := m.keys[in.IdemKey]; taken && in.IdemKey != "" {
		cur := m.tasks[id]
		return persistence.Outcome{Status: persistence.Duplicate, Current: &cur, SameBody: m.hashes[in.IdemKey] == string(in.IdemHash)}
	}
	if cur, taken := m.tasks[in.Task.ID]; taken {
		return persistence.Outcome{Status: persistence.Conflict, Current: &cur}
	}
	m.tasks[in.Task.ID] = in.Task
	if in.IdemKey != "" {
		m.keys[in.IdemKey], m.hashes[in.IdemKey] = in.Task.ID, string(in.IdemHash)
	}
	return persistence.Outcome{Status: persistence.OK}
}

func (m *model) update(u *persistence.TaskUpdate) (persistence.Outcome, *messages.Task) {
	cur, ok := m.tasks[u.Task.ID]
	switch {
	case !ok:
		return persistence.Outcome{Status: persistence.Missing}, nil
	case cur.State != u.From, cur.Claim != u.FromClaim, u.UnlessCancelled && cur.CancelRequested():
		return persistence.Outcome{Status: persistence.Conflict, Current: &cur}, nil
	}
	next := u.Task
	next.Cancel.RequestedAt, next.Cancel.Reason = cur.Cancel.RequestedAt, cur.Cancel.Reason
	if u.ClearCancel {
		next.Cancel.RequestedAt, next.Cancel.Reason = messages.Cancel{}.RequestedAt, ""
	}
	m.tasks[next.ID] = next
	return persistence.Outcome{Status: persistence.OK}, &cur
}

func (m *model) cancel(r *persistence.CancelRequest) persistence.Outcome {
	cur, ok := m.tasks[r.Task]
	switch {
	case !ok:
		return persistence.Outcome{Status: persistence.Missing}
	case cur.State.Terminal():
		return persistence.Outcome{Status: persistence.Conflict, Current: &cur}
	case !cur.CancelRequested():
		cur.Cancel.RequestedAt, cur.Cancel.Reason = r.At, r.Reason
		m.tasks[r.Task] = cur
	}
	return persistence.Outcome{Status: persistence.OK, Current: &cur}
}

func commitModel(t *testing.T, e Engine) {
	run := 0
	rapid.Check(t, func(rt *rapid.T) {
		run++
		// Each run has names of its own in the same store.
		prefix := fmt.Sprintf("r%d-", run)
		f, err := e.Store().Take(t.Context(), messages.ShardScope, prefix, "n")
		if err != nil {
			rt.Fatalf("take: %v", err)
		}
		since, err := e.Store().LastSeq(t.Context())
		if err != nil {
			rt.Fatalf("last seq: %v", err)
		}
		m := &model{fence: f, tasks: map[string]messages.Task{}, keys: map[string]string{}, hashes: map[string]string{}, sessions: map[string]messages.Session{}}
		for range rapid.IntRange(1, 8).Draw(rt, "batches") {
			ops := rapid.SliceOfN(rapid.Custom(func(rt *rapid.T) persistence.Op { return drawOp(rt, m, prefix) }), 0, 12).Draw(rt, "ops")
			want := m.commit(ops)
			got, err := e.Store().Commit(t.Context(), ops)
			if err != nil {
				rt.Fatalf("commit: %v", err)
			}
			if d := cmp.Diff(append([]persistence.Outcome{}, got...), append([]persistence.Outcome{}, want...), protocmp.Transform()); d != "" {
				rt.Fatalf("outcomes (-engine +model):\n%s", d)
			}
		}
		m.check(rt, t, e, prefix, since)
	})
}

// drawOp makes an op that fits about as often as not.
func drawOp(rt *rapid.T, m *model, prefix string) persistence.Op {
	pick := func(what string, n int) int { return rapid.IntRange(0, n-1).Draw(rt, what) }
	id := prefix + fmt.Sprint(pick("id", 5))
	task := messages.Task{
		ID: id, Tenant: "default", Pool: prefix + "p", Class: messages.High, Seq: int64(pick("seq", 9)), State: messages.TaskState(1 + pick("state", 12)),
		Claim: int64(pick("claim", 2)), Gateway: [...]string{"", "g1", "g2"}[pick("gateway", 3)], CreatedAt: messages.Now(),
	}
	if pick("error", 3) == 0 {
		task.Error = &messages.TaskError{Code: "c"}
	}
	if task.State.Terminal() {
		task.FinishedAt = task.CreatedAt
	}
	op := persistence.Op{Events: events(pick("events", 3), fmt.Sprint(prefix, serial.Add(1)))}
	if pick("fenced", 3) == 0 {
		f := m.fence
		if pick("stale", 3) == 0 {
			f.Epoch += 1 - 2*int64(pick("by", 2))
		}
		op.Fences = append(op.Fences, f)
	}
	switch pick("kind", 6) {
	case 0, 1:
		op.Insert = &persistence.TaskInsert{Task: task}
		if k := pick("key", 4); k > 0 {
			op.Insert.IdemKey, op.Insert.IdemHash = prefix+fmt.Sprint(k), []byte{byte(pick("hash", 2))}
		}
	case 2, 3, 4:
		u := &persistence.TaskUpdate{Task: task, From: messages.TaskState(1 + pick("from", 12)), FromClaim: int64(pick("from claim", 2)),
			UnlessCancelled: pick("unless", 2) == 0, ClearCancel: pick("clear", 4) == 0}
		if cur, ok := m.tasks[id]; ok {
			u.Task.CreatedAt = cur.CreatedAt
			if pick("guess", 4) > 0 {
				u.From, u.FromClaim = cur.State, cur.Claim
			}
		} else {
			u.Task.ID = prefix + "never" // an insert of this batch would fix CreatedAt
		}
		op.Update = u
	default:
		op.Cancel = &persistence.CancelRequest{Tenant: "default", Task: id, At: messages.Now(), Reason: fmt.Sprint(pick("reason", 3))}
	}
	if pick("session", 4) == 0 {
		s := messages.Session{Tenant: "default", ID: prefix + fmt.Sprint("s", pick("session id", 2)), Generation: int64(pick("generation", 3))}
		op.Session = &persistence.SessionWrite{Session: s, FromGeneration: int64(pick("from generation", 3)) - 1, AnyGeneration: pick("any", 5) == 0}
	}
	return op
}

func (m *model) check(rt *rapid.T, t *testing.T, e Engine, prefix string, since int64) {
	got, _, err := e.Store().OpenTasks(t.Context(), prefix+"p", "", 100)
	if err != nil {
		rt.Fatalf("open tasks: %v", err)
	}
	open := slices.DeleteFunc(slices.Sorted(maps.Keys(m.tasks)), func(id string) bool { a := m.tasks[id]; return a.State.Terminal() })
	if fmt.Sprint(ids(got)) != fmt.Sprint(open) {
		rt.Fatalf("open %v, want %v", ids(got), open)
	}
	for id, want := range m.tasks {
		got, err := e.Store().Task(t.Context(), "default", id)
		if d := cmp.Diff(got, want, protocmp.Transform()); err != nil || d != "" {
			rt.Fatalf("task %s: %v\n%s", id, err, d)
		}
	}
	for i := range 2 {
		id := prefix + fmt.Sprint("s", i)
		got, err := e.Store().Session(t.Context(), "default", id)
		want, ok := m.sessions[id]
		if (!ok && !errors.Is(err, persistence.ErrNotFound)) || (ok && (err != nil || got.Generation != want.Generation)) {
			rt.Fatalf("session %+v, %v, want %+v", got, err, want)
		}
	}
	subjects := []string{}
	for _, ev := range log(t, e, since, 1000) {
		subjects = append(subjects, ev.Subject)
	}
	if fmt.Sprint(subjects) != fmt.Sprint(m.events) {
		rt.Fatalf("events %v, want %v", subjects, m.events)
	}
}
