package postgres

import (
	"bytes"

	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/persistence"
)

// A batch is played through in memory before it is sent: each op against what
// the ops before it leave. Where a row is not known, the first op that looks at
// it says what it must be like (its expectation), and is taken to be right. The
// server checks the expectations and writes each row once, with what the last
// op leaves. So several steps of one task in one batch are one write, and the
// order inside the batch costs nothing.
//
// Ops that touch a common row form a group. If an expectation fails, the server
// leaves the group out and returns its rows; of a single op that settles the
// outcome, and for others the batch is played again with the rows known.

type (
	sessionKey struct{ tenant, id string }
	idemKey    struct{ tenant, key string }
)

// node is a row that the batch touches; op is one that touched it.
type node struct{ op int }

type flag int8 // of the cancel flag: what is known or expected

const (
	flagUnknown flag = iota
	flagUnset
	flagSet
)

type taskNode struct {
	node
	id     string
	loaded bool // the row is known, or known not to be there

	// Expectations of a row that is not loaded.
	absent   bool // there is none
	open     bool // in no terminal state; only while compare is not set
	compare  bool // state and claim
	state0   messages.TaskState
	claim0   int64
	cancel0  flag
	tenant0  string
	expected bool // any of these

	// As the ops so far leave it.
	exists bool
	state  messages.TaskState // 0: not known, but open
	claim  int64
	cancel flag
	row    *messages.Task // the whole row, if known

	// To be written.
	insert    *persistence.TaskInsert
	insertOp  int
	task      *messages.Task // the fields that change, nil: none
	ended     int            // place of the op that wrote them
	sent      bool           // the request names it
	setCancel bool
	cancelAt  int64
	reason    string
}

type sessionNode struct {
	node
	key        sessionKey
	loaded     bool
	expected   bool
	gen0       int64 // -1: no row
	known      bool
	exists     bool
	generation int64
	write      *messages.Session
}

type statusNode struct {
	node
	write *messages.GatewayStatus
}

// keyNode is an idempotency key; row holds it, nil: free.
type keyNode struct {
	node
	holder *taskNode
	sent   bool
	hash   []byte
}

// look is an insert that is not made but whose id (if not empty) and key must be free.
type look struct {
	op     int
	id     string
	tenant string
	key    string
}

// bases are rows that the server returned.
type bases struct {
	tasks    map[string]*base
	keys     map[idemKey]*base
	sessions map[sessionKey]int64
	// ops says of which ops: a row of theirs that is not here does not exist.
	ops []bool
}

type base struct {
	task messages.Task
	key  []byte
	hash []byte
}

type game struct {
	ops      []persistence.Op
	skip     []bool // op is settled already
	known    *bases
	outcomes []persistence.Outcome
	parent   []int32 // union-find over ops
	size     []int32
	want     []bool // by op: its outcome needs the stored row

	tasks    map[string]*taskNode
	order    []*taskNode
	keys     map[idemKey]*keyNode
	sessions map[sessionKey]*sessionNode
	statuses map[string]*statusNode
	looks    []look
}

// play settles the ops as far as it can be done without the server.
func play(ops []persistence.Op, skip []bool, known *bases) *game {
	g := &game{
		ops: ops, skip: skip, known: known, outcomes: make([]persistence.Outcome, len(ops)), parent: make([]int32, len(ops)),
		size: make([]int32, len(ops)), want: make([]bool, len(ops)), tasks: make(map[string]*taskNode, len(ops)), order: make([]*taskNode, 0, len(ops)),
	}
	for i := range ops {
		g.parent[i], g.size[i] = int32(i), 1
	}
	for i := range ops {
		if !skip[i] {
			g.outcomes[i] = g.apply(i, &ops[i])
		}
	}
	return g
}

func (g *game) group(op int) int {
	for int(g.parent[op]) != op {
		g.parent[op] = g.parent[g.parent[op]]
		op = int(g.parent[op])
	}
	return op
}

func (g *game) join(a, b int) {
	if a, b = g.group(a), g.group(b); a != b {
		g.parent[b] = int32(a)
		g.size[a] += g.size[b]
	}
}

// knows says whether the rows that op i touches were returned by the server.
func (g *game) knows(i int) bool { return g.known != nil && g.known.ops[i] }

func (g *game) apply(i int, op *persistence.Op) persistence.Outcome {
	out := persistence.Outcome{Status: persistence.OK}
	var t *taskNode
	var k *keyNode
	switch {
	case op.Insert != nil:
		t, k, out = g.fitInsert(i, op.Insert)
	case op.Update != nil:
		t, out = g.fitUpdate(i, op.Update)
	case op.Cancel != nil:
		t, out = g.fitCancel(i, op.Cancel)
	}
	var s *sessionNode
	if op.Session != nil {
		// Joined also when the task does not fit: the group is what is looked at.
		s = g.session(i, sessionKey{op.Session.Session.Tenant, op.Session.Session.ID})
	}
	if op.Gateway != nil {
		g.status(i, op.Gateway.ID)
	}
	if out.Status != persistence.OK {
		return out
	}
	if s != nil && !g.fitSession(s, op.Session) {
		if op.Insert != nil {
			g.looks = append(g.looks, look{i, op.Insert.Task.ID, op.Insert.Task.Tenant, op.Insert.IdemKey})
			return persistence.Outcome{Status: persistence.Conflict}
		}
		return g.conflict(i, t)
	}
	switch {
	case op.Insert != nil:
		g.doInsert(i, t, k, op.Insert)
	case op.Update != nil:
		t.update(i, op.Update)
	case op.Cancel != nil:
		out = g.doCancel(i, t, op.Cancel)
	}
	if s != nil {
		s.known, s.exists, s.generation, s.write = true, true, op.Session.Session.Generation, &op.Session.Session
	}
	if op.Gateway != nil {
		g.statuses[op.Gateway.ID].write = op.Gateway
	}
	return out
}

// conflict carries the row as it is at this op's turn. If that is not known,
// the server will be asked.
func (g *game) conflict(i int, t *taskNode) persistence.Outcome {
	out := persistence.Outcome{Status: persistence.Conflict}
	if t == nil {
		return out
	}
	out.Current = g.current(i, t)
	return out
}

func (g *game) current(i int, t *taskNode) *messages.Task {
	if t.row == nil {
		g.want[i] = true
		return nil
	}
	c := *t.row
	return &c
}

func (g *game) task(i int, id string) *taskNode {
	if t := g.tasks[id]; t != nil {
		g.join(t.op, i)
		return t
	}
	t := &taskNode{node: node{i}, id: id}
	if g.knows(i) {
		t.loaded = true
		if b := g.known.tasks[id]; b != nil {
			row := b.task
			t.load(&row)
		}
	}
	g.tasks[id] = t
	g.order = append(g.order, t)
	return t
}

// load makes the row of the store the one to go on from; it must still be the
// same when the batch is written.
func (t *taskNode) load(row *messages.Task) {
	t.exists, t.state, t.claim, t.cancel, t.row = true, row.State, row.Claim, flagUnset, row
	if row.CancelRequested() {
		t.cancel = flagSet
	}
	t.compare, t.state0, t.claim0, t.cancel0 = true, t.state, t.claim, t.cancel
}

func (g *game) fitInsert(i int, in *persistence.TaskInsert) (*taskNode, *keyNode, persistence.Outcome) {
	var k *keyNode
	if in.IdemKey != "" {
		if k = g.key(i, idemKey{in.Task.Tenant, in.IdemKey}); k.holder != nil {
			return nil, k, persistence.Outcome{Status: persistence.Duplicate, Current: g.current(i, k.holder), SameBody: bytes.Equal(k.hash, in.IdemHash)}
		}
	}
	t := g.task(i, in.Task.ID)
	switch {
	case t.exists:
		if k != nil && !g.knows(i) {
			g.looks = append(g.looks, look{i, "", in.Task.Tenant, in.IdemKey})
		}
		return t, k, g.conflict(i, t)
	case !t.loaded && !t.expected:
		t.absent, t.expected = true, true
	}
	return t, k, persistence.Outcome{Status: persistence.OK}
}

func (g *game) key(i int, id idemKey) *keyNode {
	if g.keys == nil {
		g.keys = map[idemKey]*keyNode{}
	}
	if k := g.keys[id]; k != nil {
		g.join(k.op, i)
		return k
	}
	k := &keyNode{node: node{i}}
	if g.knows(i) {
		if b := g.known.keys[id]; b != nil {
			k.holder, k.hash = g.task(i, b.task.ID), b.hash
		}
	}
	g.keys[id] = k
	return k
}

func (g *game) doInsert(i int, t *taskNode, k *keyNode, in *persistence.TaskInsert) {
	row := in.Task
	t.exists, t.state, t.claim, t.cancel, t.row = true, row.State, row.Claim, flagUnset, &row
	if row.CancelRequested() {
		t.cancel = flagSet
	}
	t.insert, t.insertOp, t.task, t.ended = in, i, &in.Task, i+1
	if k != nil {
		k.holder, k.hash = t, in.IdemHash
	}
}

func (g *game) fitUpdate(i int, u *persistence.TaskUpdate) (*taskNode, persistence.Outcome) {
	t := g.task(i, u.Task.ID)
	if !t.loaded && !t.expected {
		t.exists, t.expected = true, true
	}
	switch {
	case !t.exists:
		return t, persistence.Outcome{Status: persistence.Missing}
	case t.state == 0 && !t.compare && (!t.open || !u.From.Terminal()):
		t.compare, t.state0, t.claim0, t.state, t.claim = true, u.From, u.FromClaim, u.From, u.FromClaim
	}
	if t.state != u.From || t.claim != u.FromClaim {
		return t, g.conflict(i, t)
	}
	if u.UnlessCancelled {
		t.expectUnset()
		if t.cancel == flagSet {
			return t, g.conflict(i, t)
		}
	}
	return t, persistence.Outcome{Status: persistence.OK}
}

func (t *taskNode) expectUnset() {
	if t.cancel == flagUnknown {
		t.cancel, t.cancel0 = flagUnset, flagUnset
	}
}

func (t *taskNode) update(i int, u *persistence.TaskUpdate) {
	t.task, t.ended = &u.Task, i+1
	t.state, t.claim = u.Task.State, u.Task.Claim
	if u.ClearCancel && t.cancel != flagUnset {
		t.cancel, t.setCancel, t.cancelAt, t.reason = flagUnset, true, 0, ""
	}
	if t.row != nil {
		t.row = t.merge(t.row)
	}
}

// merge is what the stored row looks like with the changes so far.
func (t *taskNode) merge(row *messages.Task) *messages.Task {
	c := *row
	if u := t.task; u != nil {
		c = *u
		c.ID, c.Tenant, c.Pool, c.Class, c.Session, c.Spec, c.CreatedAt = row.ID, row.Tenant, row.Pool, row.Class, row.Session, row.Spec, row.CreatedAt
		c.Cancel.RequestedAt, c.Cancel.Reason = row.Cancel.RequestedAt, row.Cancel.Reason
	}
	if t.setCancel {
		c.Cancel.RequestedAt, c.Cancel.Reason = fromMicros(t.cancelAt), t.reason
	}
	return &c
}

func (g *game) fitCancel(i int, r *persistence.CancelRequest) (*taskNode, persistence.Outcome) {
	t := g.task(i, r.Task)
	if !t.loaded && !t.expected {
		t.exists, t.expected, t.open = true, true, true
	}
	if !t.exists {
		return t, persistence.Outcome{Status: persistence.Missing}
	}
	if r.Tenant != "" {
		tenant := t.tenant0
		if t.row != nil {
			tenant = t.row.Tenant
		}
		switch tenant {
		case "":
			t.tenant0 = r.Tenant
		case r.Tenant:
		default:
			return t, persistence.Outcome{Status: persistence.Missing}
		}
	}
	if t.state.Terminal() {
		return t, g.conflict(i, t)
	}
	t.expectUnset()
	return t, persistence.Outcome{Status: persistence.OK}
}

func (g *game) doCancel(i int, t *taskNode, r *persistence.CancelRequest) persistence.Outcome {
	if t.cancel != flagSet {
		t.setFlag(r)
	}
	return persistence.Outcome{Status: persistence.OK, Current: g.current(i, t)}
}

func (t *taskNode) setFlag(r *persistence.CancelRequest) {
	// A flag without a time would be none.
	t.cancel, t.setCancel, t.cancelAt, t.reason = flagSet, true, max(micros(r.At), 1), r.Reason
	if t.row != nil {
		row := *t.row
		row.Cancel.RequestedAt, row.Cancel.Reason = fromMicros(t.cancelAt), t.reason
		t.row = &row
	}
}

func (g *game) session(i int, key sessionKey) *sessionNode {
	if g.sessions == nil {
		g.sessions = map[sessionKey]*sessionNode{}
	}
	if s := g.sessions[key]; s != nil {
		g.join(s.op, i)
		return s
	}
	s := &sessionNode{node: node{i}, key: key}
	if g.knows(i) {
		s.loaded, s.known, s.expected, s.gen0 = true, true, true, -1
		if gen, ok := g.known.sessions[key]; ok {
			s.exists, s.generation, s.gen0 = true, gen, gen
		}
	}
	g.sessions[key] = s
	return s
}

func (g *game) fitSession(s *sessionNode, w *persistence.SessionWrite) bool {
	switch {
	case w.AnyGeneration:
		return true
	case w.FromGeneration < -1:
		return false
	case !s.known:
		s.known, s.expected, s.gen0 = true, true, w.FromGeneration
		s.exists, s.generation = w.FromGeneration >= 0, w.FromGeneration
		return true
	case s.exists:
		return s.generation == w.FromGeneration
	}
	return w.FromGeneration == -1
}

func (g *game) status(i int, id string) {
	if g.statuses == nil {
		g.statuses = map[string]*statusNode{}
	}
	if s := g.statuses[id]; s != nil {
		g.join(s.op, i)
		return
	}
	g.statuses[id] = &statusNode{node: node{i}}
}
