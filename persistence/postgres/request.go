package postgres

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/persistence"
	"github.com/dash-fleet/dash/persistence/internal/rows"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
)

// One row of the event log holds at most so many entries and bytes (plus the
// last op's), so that a reader never loads a huge batch for one entry.
const (
	eventsPerRow     = 512
	eventBytesPerRow = 256 << 10
)

// request is a batch as it is sent.
type request struct {
	fences                            []persistence.Fence // sorted, each once
	fenceRows                         array
	inserts, updates, cancels, labels array
	sessions, statuses, seqs          array
	evG, evN, evLen, partN, partLen   array
	hard, want                        array
	events                            []byte
	ops, made                         int // ops of the batch, inserts to make
	minCreated, maxCreated            int64
	check                             bool
	partEvents, partBytes             int
}

var requests = sync.Pool{New: func() any { return &request{} }}

func (r *request) reset() {
	r.fences, r.events = r.fences[:0], r.events[:0]
	for _, a := range []*array{
		&r.fenceRows, &r.inserts, &r.updates, &r.cancels, &r.labels, &r.sessions, &r.statuses, &r.seqs,
		&r.evG, &r.evN, &r.evLen, &r.partN, &r.partLen, &r.hard, &r.want,
	} {
		a.b, a.n = a.b[:0], 0
	}
	r.minCreated, r.maxCreated, r.check = 0, 0, false
	r.partEvents, r.partBytes = 0, 0
}

// newRequest encodes a game. seqs tells the greatest queue number of a pool
// that is stored for certain.
func newRequest(g *game, stored func(pool string) int64) (*request, error) {
	r := requests.Get().(*request)
	r.reset()
	r.ops, r.made = len(g.ops), 0
	r.addFences(g)
	if err := r.addTasks(g); err != nil {
		return nil, err
	}
	r.addRest(g)
	if err := r.addSessions(g); err != nil {
		return nil, err
	}
	if err := r.addStatuses(g); err != nil {
		return nil, err
	}
	if err := r.addOps(g, stored); err != nil {
		return nil, err
	}
	return r, nil
}

func compareFences(a, b persistence.Fence) int {
	switch {
	case a.Scope != b.Scope:
		return int(a.Scope) - int(b.Scope)
	case a.Key != b.Key:
		return strings.Compare(a.Key, b.Key)
	case a.Owner != b.Owner:
		return strings.Compare(a.Owner, b.Owner)
	}
	return int(max(min(a.Epoch-b.Epoch, 1), -1))
}

func (r *request) addFences(g *game) {
	var last []persistence.Fence // ops mostly share the slice of the op before
	for i := range g.ops {
		f := g.ops[i].Fences
		if g.skip[i] || len(f) == 0 || (len(f) == len(last) && &f[0] == &last[0]) {
			continue
		}
		last = f
		for _, f := range f {
			at, found := slices.BinarySearchFunc(r.fences, f, compareFences)
			if !found {
				r.fences = slices.Insert(r.fences, at, f)
			}
		}
	}
	a := &r.fenceRows
	for _, f := range r.fences {
		a.row(4)
		a.i2(int(f.Scope))
		a.text(f.Key)
		a.text(f.Owner)
		a.i8(f.Epoch)
		a.end()
	}
}

// addTasks writes the rows in the order of their ids, in which they are locked.
func (r *request) addTasks(g *game) error {
	slices.SortFunc(g.order, func(a, b *taskNode) int { return strings.Compare(a.id, b.id) })
	for _, t := range g.order {
		var err error
		switch {
		case t.insert != nil:
			err = r.addInsert(g, t)
		case t.task != nil:
			err = r.addUpdate(g, t, true)
		default:
			if t.setCancel || (t.open && !t.compare) {
				r.addCancel(g, t)
			}
			if t.compare && !t.loaded {
				err = r.addUpdate(g, t, false)
			}
		}
		if err != nil {
			return err
		}
	}
	for _, l := range g.looks {
		r.addLook(g, l, 0)
	}
	return nil
}

// addLook names an id and a key. off 0: they must be free; -1: only their rows
// are to be returned if the group is.
func (r *request) addLook(g *game, l look, off int) {
	if off == 0 {
		r.check = true
	}
	a := &r.inserts
	a.row(24)
	a.i4(g.group(l.op))
	a.bool(false)
	a.i4(off)
	a.text(l.id)
	a.text(l.tenant)
	for _, oid := range [...]uint32{oidText, oidText, oidInt2, oidInt8} {
		a.null(oid)
	}
	a.key(l.key)
	for _, oid := range insertTail {
		a.null(oid)
	}
	a.end()
	if t := g.tasks[l.id]; t != nil {
		t.sent = true
	}
	if k := g.keys[idemKey{l.tenant, l.key}]; k != nil {
		k.sent = true
	}
}

// addRest names what a group of several ops touches and nothing has named yet,
// so that all its rows are returned at once if the group does not fit.
func (r *request) addRest(g *game) {
	for i := range g.ops {
		if g.skip[i] || g.size[g.group(i)] == 1 {
			continue
		}
		op := &g.ops[i]
		l := look{op: i, id: taskID(op)}
		if op.Insert != nil {
			l.tenant, l.key = op.Insert.Task.Tenant, op.Insert.IdemKey
		}
		t, k := g.tasks[l.id], g.keys[idemKey{l.tenant, l.key}]
		if (l.id != "" && (t == nil || !t.sent)) || (l.key != "" && (k == nil || !k.sent)) {
			r.addLook(g, l, -1)
		}
	}
}

// insertTail are the types of commit_insert_v1 after idem_key.
var insertTail = [...]uint32{oidBytea, oidBytea, oidInt8, oidInt8, oidInt8, oidInt8, oidInt4, oidInt2, oidInt2, oidBool, oidText, oidText, oidBytea, oidBytea}

func (a *array) key(k string) {
	if k == "" {
		a.null(oidBytea)
		return
	}
	a.string(k)
}

func (r *request) addInsert(g *game, t *taskNode) error {
	t.sent = true
	if k := g.keys[idemKey{t.insert.Task.Tenant, t.insert.IdemKey}]; k != nil {
		k.sent = true
	}
	in := &t.insert.Task
	var spec []byte
	var err error
	if in.Spec != nil {
		if spec, err = rows.Marshal(in.Spec); err != nil {
			return err
		}
	}
	group, created := g.group(t.insertOp), micros(in.CreatedAt)
	if r.made == 0 || created < r.minCreated {
		r.minCreated = created
	}
	r.made++
	r.maxCreated = max(r.maxCreated, created)
	a := &r.inserts
	a.row(24)
	a.i4(group)
	a.bool(true)
	a.i4(t.insertOp + 1)
	a.text(in.ID)
	a.text(in.Tenant)
	a.text(in.Pool)
	a.text(in.Session)
	a.i2(int(in.Class))
	a.i8(created)
	a.key(t.insert.IdemKey)
	if t.insert.IdemKey == "" {
		a.null(oidBytea)
	} else {
		a.string(string(t.insert.IdemHash))
	}
	a.bytes(spec)
	u := t.task
	a.i8(u.Seq)
	a.i8(u.Claim)
	cancelAt, reason := micros(in.Cancel.RequestedAt), in.Cancel.Reason
	if t.setCancel {
		cancelAt, reason = t.cancelAt, t.reason
	}
	a.i8(cancelAt)
	a.i8(micros(u.FinishedAt))
	r.ended(a, t)
	a.i2(int(u.State))
	r.failed(a, u)
	a.bool(!u.State.Terminal())
	a.text(u.Gateway)
	a.textOr(u.Error.GetCode())
	a.key(reason)
	if err := r.run(a, u); err != nil {
		return err
	}
	a.end()
	for k, v := range in.Spec.GetLabels() {
		l := &r.labels
		l.row(4)
		l.i4(group)
		l.i4(t.insertOp + 1)
		l.string(k)
		l.string(v)
		l.end()
	}
	return nil
}

// ended orders the ends of a session's tasks; others are never asked for it.
func (r *request) ended(a *array, t *taskNode) {
	if t.task.State == messages.Succeeded && (t.insert == nil || t.insert.Task.Session != "") {
		a.i4(t.ended)
		return
	}
	a.null(oidInt4)
}

func (r *request) failed(a *array, u *messages.Task) {
	if u.State > messages.Succeeded {
		a.i2(int(u.State))
		return
	}
	a.null(oidInt2)
}

func (r *request) run(a *array, u *messages.Task) error {
	run, err := rows.EncodeRun(u)
	if err != nil {
		return err
	}
	a.bytes(run)
	return nil
}

func (r *request) addUpdate(g *game, t *taskNode, write bool) error {
	t.sent = true
	a := &r.updates
	a.row(19)
	a.i4(g.group(t.op))
	a.bool(write)
	a.text(t.id)
	a.i2(int(t.state0))
	a.i8(t.claim0)
	switch t.cancel0 {
	case flagUnknown:
		a.null(oidBool)
	default:
		a.bool(t.cancel0 == flagSet)
	}
	a.textOr(t.tenant0)
	if !write {
		r.check = true
		for _, oid := range [...]uint32{oidInt8, oidInt8, oidInt8, oidInt4, oidInt2, oidInt2, oidBool, oidText, oidText, oidBytea, oidInt8, oidBytea} {
			a.null(oid)
		}
		a.end()
		return nil
	}
	u := t.task
	a.i8(u.Seq)
	a.i8(u.Claim)
	a.i8(micros(u.FinishedAt))
	r.ended(a, t)
	a.i2(int(u.State))
	r.failed(a, u)
	a.bool(!u.State.Terminal())
	a.text(u.Gateway)
	a.textOr(u.Error.GetCode())
	if err := r.run(a, u); err != nil {
		return err
	}
	if t.setCancel {
		a.i8(t.cancelAt)
		a.key(t.reason)
	} else {
		a.null(oidInt8)
		a.null(oidBytea)
	}
	a.end()
	return nil
}

func (r *request) addCancel(g *game, t *taskNode) {
	r.check = true
	t.sent = true
	a := &r.cancels
	a.row(5)
	a.i4(g.group(t.op))
	a.text(t.id)
	a.textOr(t.tenant0)
	a.i8(t.cancelAt)
	a.key(t.reason)
	a.end()
}

func (r *request) addSessions(g *game) error {
	nodes := make([]*sessionNode, 0, len(g.sessions))
	for _, s := range g.sessions {
		if s.write != nil || (s.expected && !s.loaded) || g.size[g.group(s.op)] > 1 {
			nodes = append(nodes, s)
		}
	}
	slices.SortFunc(nodes, func(a, b *sessionNode) int {
		if c := strings.Compare(a.key.id, b.key.id); c != 0 {
			return c
		}
		return strings.Compare(a.key.tenant, b.key.tenant)
	})
	a := &r.sessions
	for _, s := range nodes {
		a.row(8)
		a.i4(g.group(s.op))
		a.bool(s.write != nil)
		a.text(s.key.id)
		a.text(s.key.tenant)
		if s.expected && (s.write != nil || !s.loaded) {
			r.check = true
			a.i8(s.gen0)
		} else {
			a.null(oidInt8)
		}
		if s.write == nil {
			a.null(oidText)
			a.null(oidInt8)
			a.null(oidBytea)
			a.end()
			continue
		}
		data, err := json.Marshal(s.write)
		if err != nil {
			return fmt.Errorf("encode session: %w", err)
		}
		a.text(s.write.Pool)
		a.i8(s.write.Generation)
		a.bytes(data)
		a.end()
	}
	return nil
}

func (r *request) addStatuses(g *game) error {
	nodes := make([]*statusNode, 0, len(g.statuses))
	for _, s := range g.statuses {
		if s.write != nil {
			nodes = append(nodes, s)
		}
	}
	slices.SortFunc(nodes, func(a, b *statusNode) int { return strings.Compare(a.write.ID, b.write.ID) })
	a := &r.statuses
	for _, s := range nodes {
		data, err := json.Marshal(s.write)
		if err != nil {
			return fmt.Errorf("encode gateway status: %w", err)
		}
		a.row(4)
		a.i4(g.group(s.op))
		a.text(s.write.ID)
		a.text(s.write.Tenant)
		a.bytes(data)
		a.end()
	}
	return nil
}

// addOps writes what goes by op: events, queue numbers, groups.
func (r *request) addOps(g *game, stored func(pool string) int64) (err error) {
	for i := range g.ops {
		if g.skip[i] {
			continue
		}
		op, group := &g.ops[i], g.group(i)
		if group == i && !g.easy(i) {
			r.hard.int4(group)
		}
		if g.want[i] {
			r.want.int4(group)
			r.check = true
		}
		if g.outcomes[i].Status != persistence.OK {
			continue
		}
		var t *messages.Task
		switch {
		case op.Insert != nil:
			t = &op.Insert.Task
		case op.Update != nil:
			t = &op.Update.Task
		}
		if t != nil && t.Seq > stored(t.Pool) {
			r.seqs.row(3)
			r.seqs.i4(group)
			r.seqs.text(t.Pool)
			r.seqs.i8(t.Seq)
			r.seqs.end()
		}
		if len(op.Events) > 0 {
			if err := r.addEvents(group, op.Events); err != nil {
				return err
			}
		}
	}
	r.endPart()
	return nil
}

// easy says whether the group of op i, whose first op it is, may be left out
// when it does not fit: a single op of which nothing is to be written then.
func (g *game) easy(i int) bool {
	op := &g.ops[i]
	return g.size[i] == 1 && !g.knows(i) && (op.Cancel == nil || (op.Session == nil && op.Gateway == nil && len(op.Events) == 0))
}

func (r *request) addEvents(group int, events []*messages.Event) (err error) {
	before := len(r.events)
	for _, e := range events {
		if r.events, err = appendEvent(r.events, e); err != nil {
			return err
		}
	}
	size := len(r.events) - before
	r.evG.int4(group)
	r.evN.int4(len(events))
	r.evLen.int4(size)
	r.partEvents += len(events)
	r.partBytes += size
	if r.partEvents >= eventsPerRow || r.partBytes >= eventBytesPerRow {
		r.endPart()
	}
	return nil
}

func (r *request) endPart() {
	if r.partEvents > 0 {
		r.partN.int4(r.partEvents)
		r.partLen.int4(r.partBytes)
	}
	r.partEvents, r.partBytes = 0, 0
}

// appendEvent adds one length-prefixed entry without its seq, which the row's
// first_seq gives.
func appendEvent(buf []byte, e *messages.Event) ([]byte, error) {
	if e.Seq != 0 {
		e = proto.CloneOf(e)
		e.Seq = 0
	}
	// Room for a length of five bytes is left and closed up afterwards, which is
	// cheaper than to size the message first.
	at := len(buf)
	buf = append(buf, 0, 0, 0, 0, 0)
	buf, err := rows.Append(buf, e)
	if err != nil {
		return nil, err
	}
	size := len(buf) - at - 5
	head := len(protowire.AppendVarint(buf[at:at:at+5], uint64(size)))
	copy(buf[at+head:], buf[at+5:])
	return buf[:at+head+size], nil
}
