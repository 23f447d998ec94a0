package sqlite

import (
	"bytes"
	"database/sql/driver"
	"fmt"
	"time"

	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/persistence"
)

// batch is one Commit under way. Compares run in memory against what earlier
// ops of the batch left; several updates of one task, session or gateway are
// written once, at the end.
type batch struct {
	w        *writer
	c        *conn
	ops      []persistence.Op
	outcomes []persistence.Outcome
	fenced   int

	// careful: the id of every insert is looked up. Otherwise it is taken for new,
	// being random, until it is written.
	careful  bool
	tasks    map[string]*entry
	keys     map[idemKey]*entry // of inserts that are not written yet
	order    []*entry
	sessions map[sessionKey]*sessionEntry
	statuses map[string]*messages.GatewayStatus
	poolSeq  map[string]int64
	events   []*messages.Event
	first    int64 // seq of events[0]
	seq      int64
	lastNo   int64
	drift    int64
	rows     int
}

// entry is a task that the batch has touched.
type entry struct {
	hot        // as the batch has it now
	stored hot // as the row is
	id     string
	insert *persistence.TaskInsert // not written yet
	task   *messages.Task          // values to write, nil: the row is up to date
	ended  int64
}

type idemKey struct{ tenant, key string }

type sessionKey struct{ tenant, id string }

type sessionEntry struct {
	exists     bool
	generation int64
	write      *messages.Session
}

func newBatch(w *writer, ops []persistence.Op) *batch {
	return &batch{
		w: w, ops: ops, outcomes: make([]persistence.Outcome, len(ops)),
		tasks: make(map[string]*entry, len(ops)), order: make([]*entry, 0, len(ops)), keys: map[idemKey]*entry{},
		sessions: map[sessionKey]*sessionEntry{}, statuses: map[string]*messages.GatewayStatus{}, poolSeq: map[string]int64{},
		first: w.seq + 1, seq: w.seq, lastNo: w.lastNo, drift: w.drift,
	}
}

// counters as they are once the batch is written.
func (b *batch) counters() (seq, drift int64) { return b.seq, b.drift }

func (b *batch) write(c *conn) error {
	b.c = c
	for i := range b.ops {
		out, err := b.apply(&b.ops[i])
		if err != nil {
			return err
		}
		b.outcomes[i] = out
	}
	return b.flush()
}

// apply checks all parts of op before it changes anything.
func (b *batch) apply(op *persistence.Op) (persistence.Outcome, error) {
	if !b.fencesHold(op.Fences) {
		b.fenced++
		return persistence.Outcome{Status: persistence.Fenced}, nil
	}
	if op.Session != nil {
		ok, err := b.sessionFits(op.Session)
		if err != nil {
			return persistence.Outcome{}, err
		}
		// The task's compare is reported first, being the earlier field.
		if !ok && op.Update == nil && op.Insert == nil && op.Cancel == nil {
			return persistence.Outcome{Status: persistence.Conflict}, nil
		}
		if !ok {
			return b.sessionConflict(op)
		}
	}
	out := persistence.Outcome{Status: persistence.OK}
	var err error
	switch {
	case op.Insert != nil:
		out, err = b.insert(op.Insert)
	case op.Update != nil:
		out, err = b.update(op.Update, b.seq+int64(len(op.Events)))
	case op.Cancel != nil:
		out, err = b.cancel(op.Cancel)
	}
	if err != nil || out.Status != persistence.OK {
		return out, err
	}
	if s := op.Session; s != nil {
		e := b.sessions[sessionKey{s.Session.Tenant, s.Session.ID}]
		e.exists, e.generation, e.write = s.Session.State != messages.SessionRemoved, s.Session.Generation, &s.Session
	}
	if op.Gateway != nil {
		b.statuses[op.Gateway.ID] = op.Gateway
	}
	b.events = append(b.events, op.Events...)
	b.seq += int64(len(op.Events))
	return out, nil
}

func (b *batch) fencesHold(fences []messages.Fence) bool {
	for i := range fences {
		f := &fences[i]
		o, ok := b.w.owners[ownerKey{f.Scope, f.Key}]
		if !ok || o.node == "" || o.node != f.Owner || o.epoch != f.Epoch {
			return false
		}
	}
	return true
}

// insert leaves the row to the end of the batch: mostly its claim follows in the
// same one, and is then written with it.
func (b *batch) insert(in *persistence.TaskInsert) (persistence.Outcome, error) {
	out, taken, err := b.taken(in, b.careful)
	if err != nil || taken {
		return out, err
	}
	t := &in.Task
	created := micros(t.CreatedAt)
	no := max(b.lastNo+1, created)
	h := hotOf(no, t)
	e := &entry{hot: h, stored: h, id: t.ID, insert: in, ended: b.seq + 1}
	b.lastNo, b.drift = no, max(b.drift, no-created)
	b.tasks[t.ID] = e
	b.order = append(b.order, e)
	if in.IdemKey != "" {
		b.keys[idemKey{t.Tenant, in.IdemKey}] = e
	}
	b.raise(t.Pool, t.Seq)
	return persistence.Outcome{Status: persistence.OK}, nil
}

// taken says which row keeps an insert out, if any: the one with its
// idempotency key or, if ids are looked up too, the one with its id.
func (b *batch) taken(in *persistence.TaskInsert, ids bool) (out persistence.Outcome, taken bool, err error) {
	out, id, err := b.keyed(in)
	if err != nil {
		return out, false, err
	}
	if id == "" {
		if !ids {
			return out, false, nil
		}
		out.Status, id = persistence.Conflict, in.Task.ID
	}
	out.Current, err = b.current(id)
	return out, out.Current != nil, err
}

// keyed finds the row with the insert's idempotency key; id is "" if there is none.
func (b *batch) keyed(in *persistence.TaskInsert) (out persistence.Outcome, id string, err error) {
	if in.IdemKey == "" {
		return out, "", nil
	}
	if e := b.keys[idemKey{in.Task.Tenant, in.IdemKey}]; e != nil {
		if err := b.flushTask(e); err != nil {
			return out, "", err
		}
	}
	err = b.c.rows(stTaskByKey, func(v []driver.Value) error {
		id, out.Status, out.SameBody = text(v[0]), persistence.Duplicate, bytes.Equal(blob(v[1]), in.IdemHash)
		return nil
	}, in.Task.Tenant, in.IdemKey)
	if err != nil {
		return out, "", fmt.Errorf("find idempotency key: %w", err)
	}
	return out, id, nil
}

func (b *batch) update(u *persistence.TaskUpdate, ended int64) (persistence.Outcome, error) {
	e, err := b.find(u.Task.ID)
	if err != nil {
		return persistence.Outcome{}, err
	}
	if e == nil {
		return persistence.Outcome{Status: persistence.Missing}, nil
	}
	if e.state != u.From || e.claim != u.FromClaim || (u.UnlessCancelled && e.cancel) {
		cur, err := b.current(e.id)
		return persistence.Outcome{Status: persistence.Conflict, Current: cur}, err
	}
	if u.ClearCancel && e.cancel {
		if err := b.flushTask(e); err != nil {
			return persistence.Outcome{}, err
		}
		if _, err := b.c.run(stCancelTask, int64(0), "", e.no); err != nil {
			return persistence.Outcome{}, fmt.Errorf("clear cancel flag: %w", err)
		}
		e.stored.cancel, e.cancel = false, false
	}
	t := &u.Task
	e.task, e.ended = t, ended
	h := hotOf(e.no, t)
	h.cancel = e.cancel
	e.hot = h
	b.raise(t.Pool, t.Seq)
	return persistence.Outcome{Status: persistence.OK}, nil
}

func (b *batch) cancel(r *persistence.CancelRequest) (persistence.Outcome, error) {
	e, err := b.find(r.Task)
	if err != nil {
		return persistence.Outcome{}, err
	}
	if e == nil {
		return persistence.Outcome{Status: persistence.Missing}, nil
	}
	cur, err := b.current(e.id)
	if err != nil {
		return persistence.Outcome{}, err
	}
	switch {
	case r.Tenant != "" && cur.Tenant != r.Tenant:
		return persistence.Outcome{Status: persistence.Missing}, nil
	case e.state.Terminal():
		return persistence.Outcome{Status: persistence.Conflict, Current: cur}, nil
	case e.cancel:
		return persistence.Outcome{Status: persistence.OK, Current: cur}, nil
	}
	at := max(micros(r.At), 1) // a flag without a time would be none
	if _, err := b.c.run(stCancelTask, at, r.Reason, e.no); err != nil {
		return persistence.Outcome{}, fmt.Errorf("set cancel flag: %w", err)
	}
	b.rows++
	e.cancel, e.stored.cancel = true, true
	cur.Cancel.RequestedAt, cur.Cancel.Reason = fromMicros(at), r.Reason
	return persistence.Outcome{Status: persistence.OK, Current: cur}, nil
}

func (b *batch) sessionFits(s *persistence.SessionWrite) (bool, error) {
	k := sessionKey{s.Session.Tenant, s.Session.ID}
	e := b.sessions[k]
	if e == nil {
		e = &sessionEntry{}
		err := b.c.rows(stSessionGen, func(v []driver.Value) error {
			e.exists, e.generation = true, integer(v[0])
			return nil
		}, k.id, k.tenant)
		if err != nil {
			return false, fmt.Errorf("read session: %w", err)
		}
		b.sessions[k] = e
	}
	if s.AnyGeneration {
		return true, nil
	}
	if !e.exists {
		return s.FromGeneration == -1, nil
	}
	return s.FromGeneration == e.generation, nil
}

// sessionConflict reports the outcome of an op whose session does not fit: the
// task's own outcome if that fails too, else Conflict with the stored task.
func (b *batch) sessionConflict(op *persistence.Op) (persistence.Outcome, error) {
	id := ""
	switch {
	case op.Insert != nil:
		out, _, err := b.taken(op.Insert, true)
		return out, err
	case op.Update != nil:
		id = op.Update.Task.ID
	default:
		id = op.Cancel.Task
	}
	cur, err := b.current(id)
	if err != nil {
		return persistence.Outcome{}, err
	}
	if cur == nil || (op.Cancel != nil && op.Cancel.Tenant != "" && cur.Tenant != op.Cancel.Tenant) {
		return persistence.Outcome{Status: persistence.Missing}, nil
	}
	return persistence.Outcome{Status: persistence.Conflict, Current: cur}, nil
}

// find returns the task as the batch has it, nil if there is none.
func (b *batch) find(id string) (*entry, error) {
	if e := b.tasks[id]; e != nil {
		return e, nil
	}
	h, ok := b.w.hot[id]
	if !ok {
		err := b.c.rows(stTaskByID, func(v []driver.Value) error {
			ok = true
			h = hot{
				no: integer(v[0]), state: messages.TaskState(integer(v[1])), claim: integer(v[2]), cancel: integer(v[3]) != 0, gateway: text(v[4]),
				outcome: integer(v[5]) != 0,
			}
			return nil
		}, id)
		if err != nil {
			return nil, fmt.Errorf("find task: %w", err)
		}
		if !ok {
			return nil, nil
		}
	}
	e := &entry{hot: h, stored: h, id: id}
	b.tasks[id] = e
	b.order = append(b.order, e)
	return e, nil
}

// current reads the whole row as the ops before this one left it, nil if there
// is none.
func (b *batch) current(id string) (cur *messages.Task, err error) {
	if e := b.tasks[id]; e != nil {
		if err := b.flushTask(e); err != nil {
			return nil, err
		}
	}
	err = b.c.rows(stReadTask, func(v []driver.Value) error {
		t, err := decodeTask(v)
		cur = &t
		return err
	}, id)
	return cur, err
}

func (b *batch) raise(pool string, seq int64) {
	if seq > b.w.poolSeq[pool] && seq > b.poolSeq[pool] {
		b.poolSeq[pool] = seq
	}
}

// committed carries the batch into the writer's memory and numbers the events.
func (b *batch) committed() {
	for i, e := range b.events {
		e.Seq = b.first + int64(i)
	}
	for _, e := range b.order {
		if e.state.Terminal() {
			delete(b.w.hot, e.id)
			continue
		}
		b.w.remember(e.id, e.hot)
	}
	for pool, seq := range b.poolSeq {
		b.w.poolSeq[pool] = seq
	}
	b.w.lastNo = b.lastNo
	b.w.m.Fenced.Add(float64(b.fenced))
	b.w.note(b.rows)
}

func hotOf(no int64, t *messages.Task) hot {
	return hot{
		no: no, claim: t.Claim, gateway: t.Gateway, state: t.State, cancel: t.CancelRequested(),
		outcome: !t.FinishedAt.IsZero() || t.Error.GetCode() != "",
	}
}

// now is the store's clock.
func now() int64 { return time.Now().UnixMicro() }
