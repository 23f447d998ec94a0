package dispatch

import (
	"context"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/persistence"
)

// memory is a store in memory with the compare-and-set rules of the contract.
type memory struct {
	mu       sync.Mutex
	tasks    map[string]messages.Task
	keys     map[string]string // tenant/key -> task
	hashes   map[string]string
	sessions map[string]messages.Session
	fences   map[string]messages.Fence
	events   []*messages.Event
	err      error         // answer to every Commit while set
	unlawful []string      // changes that no table allows
	lose     int           // so many commits are made, but answered with an error
	hold     chan struct{} // commits wait for it while set
	reads    chan struct{} // reads of sessions wait for it while set
}

func newMemory() *memory {
	return &memory{tasks: map[string]messages.Task{}, keys: map[string]string{}, hashes: map[string]string{},
		sessions: map[string]messages.Session{}, fences: map[string]messages.Fence{}}
}

func (m *memory) Commit(_ context.Context, batch []persistence.Op) ([]persistence.Outcome, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if hold := m.hold; hold != nil {
		m.mu.Unlock()
		<-hold
		m.mu.Lock()
	}
	if m.err != nil {
		return nil, m.err
	}
	out := make([]persistence.Outcome, len(batch))
	for i := range batch {
		out[i] = m.one(&batch[i])
	}
	if m.lose > 0 {
		m.lose--
		return nil, persistence.ErrUnavailable
	}
	return out, nil
}

func (m *memory) one(op *persistence.Op) persistence.Outcome {
	for _, f := range op.Fences {
		if now, ok := m.fences[f.Key]; ok && now != f {
			return persistence.Outcome{Status: persistence.Fenced}
		}
	}
	out := persistence.Outcome{Status: persistence.OK}
	var writes []func()
	if in := op.Insert; in != nil {
		key := in.Task.Tenant + "/" + in.IdemKey
		if id, ok := m.keys[key]; ok && in.IdemKey != "" {
			t := m.tasks[id]
			return persistence.Outcome{Status: persistence.Duplicate, Current: &t, SameBody: m.hashes[key] == string(in.IdemHash)}
		}
		writes = append(writes, func() {
			m.tasks[in.Task.ID] = in.Task
			if in.IdemKey != "" {
				m.keys[key], m.hashes[key] = in.Task.ID, string(in.IdemHash)
			}
		})
	}
	if u := op.Update; u != nil {
		row, ok := m.tasks[u.Task.ID]
		if !ok {
			return persistence.Outcome{Status: persistence.Missing}
		}
		if row.State != u.From || row.Claim != u.FromClaim || u.UnlessCancelled && row.CancelRequested() {
			return persistence.Outcome{Status: persistence.Conflict, Current: &row}
		}
		next := u.Task
		if !u.ClearCancel {
			next.Cancel.RequestedAt, next.Cancel.Reason = row.Cancel.RequestedAt, row.Cancel.Reason
		}
		writes = append(writes, func() { m.tasks[next.ID] = next })
	}
	if c := op.Cancel; c != nil {
		row, ok := m.tasks[c.Task]
		if !ok || c.Tenant != "" && row.Tenant != c.Tenant {
			return persistence.Outcome{Status: persistence.Missing}
		}
		out.Current = &row
		if row.State.Terminal() {
			return persistence.Outcome{Status: persistence.Conflict, Current: &row}
		}
		if !row.CancelRequested() {
			row.Cancel.RequestedAt, row.Cancel.Reason = c.At, c.Reason
		}
		writes = append(writes, func() { m.tasks[row.ID] = row })
	}
	if w := op.Session; w != nil {
		key := sessionID(w.Session.Tenant, w.Session.ID)
		row, ok := m.sessions[key]
		if !w.AnyGeneration && (ok && row.Generation != w.FromGeneration || !ok && w.FromGeneration != -1) {
			out.Status = persistence.Conflict
			if op.Update != nil {
				t := m.tasks[op.Update.Task.ID]
				out.Current = &t
			}
			return out
		}
		writes = append(writes, func() {
			m.sessions[key] = w.Session
			if w.Session.State == messages.SessionRemoved {
				delete(m.sessions, key)
			}
		})
	}
	for _, f := range writes {
		f()
	}
	for _, e := range op.Events {
		m.judge(e)
		e.Seq = int64(len(m.events) + 1)
		m.events = append(m.events, e)
	}
	return out
}

func (m *memory) sessionsNow() map[string]messages.Session {
	m.mu.Lock()
	defer m.mu.Unlock()
	return maps.Clone(m.sessions)
}

// sessionState is the state with that name, 0 for none.
func sessionState(name string) messages.SessionState {
	for s := messages.SessionIdle; s <= messages.SessionRemoved; s++ {
		if s.String() == name {
			return s
		}
	}
	return 0
}

// judge keeps every change that the tables of messages do not allow.
func (m *memory) judge(e *messages.Event) {
	lawful := true
	switch {
	case e.GetTask() != nil:
		from, _ := messages.ParseTaskState(e.GetTask().From)
		to, err := messages.ParseTaskState(e.GetTask().State)
		lawful = err == nil && messages.Lawful(messages.TaskTransitions, from, to)
		taken.Store([2]any{from, to}, true)
	case e.GetSession() != nil:
		from := sessionState(e.GetSession().From)
		to := sessionState(e.GetSession().State)
		lawful = to != 0 && (from == to || messages.Lawful(messages.SessionTransitions, from, to))
		taken.Store([2]any{from, to}, true)
	}
	if !lawful {
		m.unlawful = append(m.unlawful, e.String())
	}
}

func (m *memory) Task(_ context.Context, tenant, id string) (messages.Task, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	t, ok := m.tasks[id]
	if !ok || tenant != "" && t.Tenant != tenant {
		return messages.Task{}, persistence.ErrNotFound
	}
	return t, nil
}

// rows returns the tasks that match, by id.
func (m *memory) rows(match func(*messages.Task) bool) []messages.Task {
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []messages.Task
	for _, t := range m.tasks {
		if match(&t) {
			out = append(out, t)
		}
	}
	slices.SortFunc(out, func(a, b messages.Task) int { return strings.Compare(a.ID, b.ID) })
	return out
}

func (m *memory) Tasks(_ context.Context, f persistence.TaskFilter, cursor string, limit int) ([]messages.Task, string, error) {
	rows := m.rows(func(t *messages.Task) bool {
		return (f.Pool == "" || t.Pool == f.Pool) && (len(f.States) == 0 || slices.Contains(f.States, t.State)) &&
			(f.Class == 0 || t.Class == f.Class) && (cursor == "" || t.ID < cursor)
	})
	slices.Reverse(rows)
	if len(rows) <= limit {
		return rows, "", nil
	}
	return rows[:limit], rows[limit-1].ID, nil
}

func (m *memory) OpenTasks(_ context.Context, pool, after string, limit int) ([]messages.Task, bool, error) {
	rows := m.rows(func(t *messages.Task) bool { return t.Pool == pool && !t.State.Terminal() && t.ID > after })
	return rows[:min(limit, len(rows))], len(rows) > limit, nil
}

func (m *memory) MaxSeq(_ context.Context, pool string) (int64, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var n int64
	for _, t := range m.tasks {
		n = max(n, t.Seq)
	}
	return n, nil
}

func (m *memory) Session(_ context.Context, tenant, id string) (messages.Session, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if reads := m.reads; reads != nil {
		m.mu.Unlock()
		<-reads
		m.mu.Lock()
	}
	s, ok := m.sessions[sessionID(tenant, id)]
	if !ok {
		return s, persistence.ErrNotFound
	}
	return s, nil
}

func (m *memory) Sessions(_ context.Context, tenant, pool, after string, limit int) ([]messages.Session, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []messages.Session
	last, _ := persistence.SplitSessionPlace(after) // ids are of one tenant here
	for _, s := range m.sessions {
		if (pool == "" || s.Pool == pool) && s.ID > last {
			out = append(out, s)
		}
	}
	slices.SortFunc(out, func(a, b messages.Session) int { return strings.Compare(a.ID, b.ID) })
	return out[:min(limit, len(out))], nil
}

func (m *memory) Transcript(_ context.Context, tenant, session, before string, limit int) ([]messages.Task, bool, error) {
	rows := m.rows(func(t *messages.Task) bool {
		return t.Tenant == tenant && t.Session == session && t.State == messages.Succeeded
	})
	slices.SortFunc(rows, func(a, b messages.Task) int { return a.FinishedAt.Compare(b.FinishedAt) })
	if i := slices.IndexFunc(rows, func(t messages.Task) bool { return t.ID == before }); i >= 0 {
		rows = rows[:i]
	}
	for size, i := 0, len(rows)-1; i >= 0; i-- {
		if size += len(rows[i].Spec.GetMessage()) + len(rows[i].Result.GetText()); size > persistence.PageBytes && i < len(rows)-1 {
			return rows[i+1:], true, nil
		}
	}
	return rows[max(0, len(rows)-limit):], len(rows) > limit, nil
}

func (m *memory) set(f func(*memory)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	f(m)
}
