package redis

import (
	"encoding/binary"
	"fmt"
	"strconv"

	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/messages/next"
	"github.com/dash-fleet/dash/messages/wire"
	"github.com/dash-fleet/dash/persistence"
	"github.com/dash-fleet/dash/persistence/internal/rows"
)

// Kinds and flags of an op in the commit script.
const (
	kindNone   = 0
	kindInsert = 'I'
	kindUpdate = 'U'
	kindCancel = 'C'

	opUnlessCancelled = 1 // update
	opCancelled       = 1 // insert: the task comes with its cancel flag
	opClearCancel     = 2 // update
	opCode            = 4 // the task has an error code
	opSession         = 8
	opGateway         = 16
	opExtras          = 32 // insert: with idempotency key, session, cancel flag or labels
)

// maxName bounds what is kept with a two-byte length.
const maxName = 16 << 10

// maxData bounds what a batch writes: the server takes at most 512 MiB in one text.
const maxData = 256 << 20

// index numbers distinct texts from 1 on.
type index struct {
	of   map[string]int
	list []any
}

func (x *index) add(s string) int {
	if n, ok := x.of[s]; ok {
		return n
	}
	if x.of == nil {
		x.of = map[string]int{}
	}
	x.list = append(x.list, s)
	x.of[s] = len(x.list)
	return len(x.list)
}

// encoder turns a batch into the arguments of the commit script. What every op
// has is in three texts, so that a batch has few arguments: the server pays for
// each of them several times.
type encoder struct {
	fences   map[messages.Fence]uint16
	fields   []any
	values   []any
	sets     index
	ids      index
	idem     index
	sessions index
	pools    index
	heads    []byte
	data     []byte
	events   []byte
	extras   []any
	arena    []byte // of small extras
}

func encodeBatch(ops []persistence.Op) (*encoder, error) {
	e := &encoder{fences: map[messages.Fence]uint16{}, heads: make([]byte, 0, headBytes*len(ops)), data: make([]byte, 0, 256*len(ops)), events: make([]byte, 0, 128*len(ops))}
	e.ids.of, e.ids.list = make(map[string]int, len(ops)), make([]any, 0, len(ops))
	for i := range ops {
		if err := e.op(&ops[i]); err != nil {
			return nil, fmt.Errorf("op %d: %w", i, err)
		}
	}
	return e, nil
}

// args are the arguments behind those that name the batch.
func (e *encoder) args(head []any, ops int) []any {
	lists := [...][]any{e.fields, e.values, e.sets.list, e.ids.list, e.idem.list, e.sessions.list, e.pools.list, e.extras}
	n := len(head) + 10
	for _, part := range lists {
		n += len(part)
	}
	out := append(make([]any, 0, n), head...)
	out = append(out, len(e.fields), len(e.sets.list), len(e.ids.list), len(e.idem.list), len(e.sessions.list), len(e.pools.list), ops, e.heads, e.data, e.events)
	for _, part := range lists {
		out = append(out, part...)
	}
	return out
}

// cut returns what was appended to the arena since from.
func (e *encoder) cut(from int) []byte { return e.arena[from:len(e.arena):len(e.arena)] }

func (e *encoder) fence(f messages.Fence) (uint16, error) {
	n, ok := e.fences[f]
	if ok {
		return n, nil
	}
	if len(e.fields) == 1<<16-1 {
		return 0, invalid("a batch names too many fences", next.SmallerBatches)
	}
	value := ""
	if f.Owner != "" {
		value = ownerValue(f.Epoch, f.Owner)
	}
	e.fields, e.values = append(e.fields, ownerField(f.Scope, f.Key)), append(e.values, value)
	n = uint16(len(e.fields))
	e.fences[f] = n
	return n, nil
}

func ownerField(scope messages.Scope, key string) string {
	return strconv.Itoa(int(scope)) + ":" + key
}

func ownerValue(epoch int64, owner string) string {
	return strconv.FormatInt(epoch, 10) + "\x00" + owner
}

// fenceSet numbers the distinct sets of fences from 1 on; 0 is the empty set.
func (e *encoder) fenceSet(fences []messages.Fence) (int, error) {
	if len(fences) == 0 {
		return 0, nil
	}
	set := make([]byte, 0, 16)
	for _, f := range fences {
		n, err := e.fence(f)
		if err != nil {
			return 0, err
		}
		set = binary.BigEndian.AppendUint16(set, n)
	}
	if n, ok := e.sets.of[string(set)]; ok {
		return n, nil
	}
	return e.sets.add(string(set)), nil
}

// headBytes is the length of a head.
const headBytes = 54

// head is the fixed part of an op.
type head struct {
	kind, flags byte
	id, pool    int
	seq         int64
	row, spec   int // bytes of data
	cmp, to     [10]byte
}

func stateClaim(s messages.TaskState, claim int64, flags byte) (b [10]byte) {
	b[0] = byte(s)
	binary.BigEndian.PutUint64(b[1:], uint64(claim))
	b[rowFlags] = flags
	return b
}

func (e *encoder) op(op *persistence.Op) error {
	h := head{}
	extras, data, events := len(e.extras), len(e.data), len(e.events)
	if err := e.others(op, &h); err != nil {
		return err
	}
	var err error
	switch {
	case op.Insert != nil:
		err = e.insert(op.Insert, &h)
	case op.Update != nil:
		err = e.update(op.Update, &h)
	case op.Cancel != nil:
		h.kind, h.id = kindCancel, e.ids.add(op.Cancel.Task)
		e.extras = append(e.extras, op.Cancel.Tenant, e.cancelRow(max(micros(op.Cancel.At), 1), op.Cancel.Reason))
	}
	if err != nil {
		return err
	}
	h.row = len(e.data) - data - h.spec
	for _, ev := range op.Events {
		if e.events, err = rows.AppendEvent(e.events, ev); err != nil {
			return err
		}
	}
	return e.head(op, &h, len(e.extras)-extras, len(e.events)-events)
}

func (e *encoder) head(op *persistence.Op, h *head, extras, events int) error {
	set, err := e.fenceSet(op.Fences)
	if err != nil {
		return err
	}
	if extras >= 1<<16 || len(op.Events) >= 1<<16 || h.pool >= 1<<16 || set >= 1<<16 || len(e.data) > maxData || len(e.events) > maxData {
		return invalid("a batch is too large or has too many pools, or an op too many parts", next.SmallerOps)
	}
	b := append(e.heads, h.kind, h.flags)
	b = binary.BigEndian.AppendUint16(b, uint16(extras))
	b = binary.BigEndian.AppendUint32(b, uint32(h.id))
	b = binary.BigEndian.AppendUint16(b, uint16(len(op.Events)))
	b = binary.BigEndian.AppendUint16(b, uint16(h.pool))
	b = binary.BigEndian.AppendUint64(b, uint64(max(h.seq, 0)))
	b = binary.BigEndian.AppendUint32(b, uint32(h.row))
	b = binary.BigEndian.AppendUint32(b, uint32(h.spec))
	b = binary.BigEndian.AppendUint32(b, uint32(events))
	b = binary.BigEndian.AppendUint16(b, uint16(set))
	e.heads = append(append(b, h.cmp[:]...), h.to[:]...)
	return nil
}

// others adds the writes that may come with any kind.
func (e *encoder) others(op *persistence.Op, h *head) error {
	if s := op.Session; s != nil {
		h.flags |= opSession
		if len(s.Session.Tenant)+len(s.Session.ID) > maxName {
			return invalid("the session's id is too long", next.ID128)
		}
		gen := "!" // fits nothing
		switch {
		case s.AnyGeneration:
			gen = ""
		case s.FromGeneration == -1:
			gen = "-"
		case s.FromGeneration >= 0:
			gen = string(binary.BigEndian.AppendUint64(nil, uint64(s.FromGeneration)))
		}
		enc, err := encodeSession(&s.Session)
		if err != nil {
			return err
		}
		e.extras = append(e.extras, e.sessions.add(agentField(s.Session.Tenant, s.Session.ID)), gen, enc)
	}
	if g := op.Gateway; g != nil {
		h.flags |= opGateway
		enc, err := encodeStatus(g)
		if err != nil {
			return err
		}
		e.extras = append(e.extras, g.ID, enc)
	}
	return nil
}

func (e *encoder) update(u *persistence.TaskUpdate, h *head) (err error) {
	t := &u.Task
	h.kind, h.id, h.pool, h.seq = kindUpdate, e.ids.add(t.ID), e.pools.add(t.Pool), t.Seq
	h.cmp, h.to = stateClaim(u.From, u.FromClaim, 0), stateClaim(t.State, t.Claim, codeFlag(t))
	if u.UnlessCancelled {
		h.flags |= opUnlessCancelled
	}
	if u.ClearCancel {
		h.flags |= opClearCancel
	}
	e.data, err = wire.AppendRow(e.data, t)
	return err
}

func codeFlag(t *messages.Task) byte {
	if t.Error.GetCode() != "" {
		return flagCode
	}
	return 0
}

func (e *encoder) insert(in *persistence.TaskInsert, h *head) (err error) {
	t := &in.Task
	if len(t.ID)+len(t.Pool)+len(t.Tenant)+len(t.Session)+len(in.IdemKey) > maxName {
		return invalid("the names of a task are too long", next.ID128)
	}
	flags := codeFlag(t)
	if t.Session != "" {
		flags |= flagSession
	}
	if t.CancelRequested() {
		flags |= flagCancel
		h.flags |= opCancelled
	}
	h.kind, h.id, h.pool, h.seq, h.to = kindInsert, e.ids.add(t.ID), e.pools.add(t.Pool), t.Seq, stateClaim(t.State, t.Claim, flags)
	binary.BigEndian.PutUint64(h.cmp[:], uint64(max(micros(t.CreatedAt), 0)))
	if e.data, err = wire.AppendRow(appendNames(e.data, t), t); err != nil {
		return err
	}
	from := len(e.data)
	if e.data, err = appendSpec(e.data, t, in.IdemKey, in.IdemHash); err != nil {
		return err
	}
	h.spec = len(e.data) - from
	e.insertExtras(in, h)
	return nil
}

// insertExtras adds what only some tasks have.
func (e *encoder) insertExtras(in *persistence.TaskInsert, h *head) {
	t := &in.Task
	if in.IdemKey == "" && t.Session == "" && !t.CancelRequested() && len(t.Spec.GetLabels()) == 0 {
		return
	}
	h.flags |= opExtras
	if in.IdemKey == "" {
		e.extras = append(e.extras, 0, "")
	} else {
		from := len(e.arena)
		e.arena = binary.BigEndian.AppendUint16(e.arena, uint16(len(t.ID)))
		e.arena = append(append(e.arena, t.ID...), in.IdemHash...)
		e.extras = append(e.extras, e.idem.add(idemField(t.Tenant, in.IdemKey)), e.cut(from))
	}
	e.extras = append(e.extras, t.Session)
	if t.CancelRequested() {
		e.extras = append(e.extras, e.cancelRow(micros(t.Cancel.RequestedAt), t.Cancel.Reason))
	}
	for k := range t.Spec.GetLabels() {
		e.extras = append(e.extras, k)
	}
}

func idemField(tenant, key string) string { return tenant + "\x00" + key }

func (e *encoder) cancelRow(at int64, reason string) []byte {
	from := len(e.arena)
	e.arena = append(binary.BigEndian.AppendUint64(e.arena, uint64(at)), reason...)
	return e.cut(from)
}

func invalid(what, next string) error {
	return &messages.Error{Code: messages.CodeInvalid, Message: what, NextStep: next}
}
