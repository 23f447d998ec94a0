package redis

import (
	"encoding/binary"
	"fmt"
	"strconv"

	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/persistence"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
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
)

// maxName bounds what is kept with a two-byte length.
const maxName = 16 << 10

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

// encoder turns a batch into the arguments of the commit script. All small
// pieces share one arena.
type encoder struct {
	fences   map[persistence.Fence]uint16
	fields   []any
	values   []any
	ids      index
	idem     index
	sessions index
	pools    index
	ops      []any
	arena    []byte
}

func encodeBatch(ops []persistence.Op) (*encoder, error) {
	e := &encoder{fences: map[persistence.Fence]uint16{}, ops: make([]any, 0, 4*len(ops)), arena: make([]byte, 0, 512*len(ops))}
	e.ids.of = make(map[string]int, len(ops))
	for i := range ops {
		if err := e.op(&ops[i]); err != nil {
			return nil, fmt.Errorf("op %d: %w", i, err)
		}
	}
	return e, nil
}

// args are the arguments behind those that name the batch.
func (e *encoder) args(head []any, ops int) []any {
	n := len(head) + 6 + 2*len(e.fields) + len(e.ids.list) + len(e.idem.list) + len(e.sessions.list) + len(e.pools.list) + len(e.ops)
	out := append(make([]any, 0, n), head...)
	out = append(out, len(e.fields), len(e.ids.list), len(e.idem.list), len(e.sessions.list), len(e.pools.list), ops)
	for _, part := range [][]any{e.fields, e.values, e.ids.list, e.idem.list, e.sessions.list, e.pools.list, e.ops} {
		out = append(out, part...)
	}
	return out
}

// cut returns what was appended to the arena since from.
func (e *encoder) cut(from int) []byte { return e.arena[from:len(e.arena):len(e.arena)] }

func (e *encoder) fence(f persistence.Fence) (uint16, error) {
	n, ok := e.fences[f]
	if ok {
		return n, nil
	}
	if len(e.fields) == 1<<16-1 {
		return 0, invalid("a batch names too many fences", "send smaller batches")
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

func ownerField(scope persistence.Scope, key string) string {
	return strconv.Itoa(int(scope)) + ":" + key
}

func ownerValue(epoch int64, owner string) string {
	return strconv.FormatInt(epoch, 10) + "\x00" + owner
}

// head is the fixed part of an op.
type head struct {
	kind, flags byte
	id, pool    int
	seq         int64
	cmp, to     [9]byte
}

func stateClaim(s messages.TaskState, claim int64) (b [9]byte) {
	b[0] = byte(s)
	binary.BigEndian.PutUint64(b[1:], uint64(claim))
	return b
}

func (e *encoder) op(op *persistence.Op) error {
	h := head{}
	at := len(e.ops)
	e.ops = append(e.ops, nil, "", "") // head, tail, events
	if err := e.extras(op, &h); err != nil {
		return err
	}
	var err error
	switch {
	case op.Insert != nil:
		err = e.insert(op.Insert, &h, at)
	case op.Update != nil:
		err = e.update(op.Update, &h, at)
	case op.Cancel != nil:
		h.kind, h.id = kindCancel, e.ids.add(op.Cancel.Task)
		e.ops = append(e.ops, op.Cancel.Tenant, e.cancelRow(max(micros(op.Cancel.At), 1), op.Cancel.Reason))
	}
	if err != nil {
		return err
	}
	from := len(e.arena)
	for _, ev := range op.Events {
		if e.arena, err = appendEvent(e.arena, ev); err != nil {
			return err
		}
	}
	e.ops[at+2] = e.cut(from)
	return e.head(op, &h, at)
}

func (e *encoder) head(op *persistence.Op, h *head, at int) error {
	from, n := len(e.arena), len(e.ops)-at
	if n >= 1<<16 || len(op.Events) >= 1<<16 || h.pool >= 1<<16 {
		return invalid("a batch has too many pools, or an op too many parts", "send smaller batches, with fewer labels and events in one op")
	}
	b := append(e.arena, h.kind, h.flags)
	b = binary.BigEndian.AppendUint16(b, uint16(n))
	b = binary.BigEndian.AppendUint32(b, uint32(h.id))
	b = binary.BigEndian.AppendUint16(b, uint16(len(op.Events)))
	b = binary.BigEndian.AppendUint16(b, uint16(h.pool))
	b = binary.BigEndian.AppendUint64(b, uint64(max(h.seq, 0)))
	b = append(append(b, h.cmp[:]...), h.to[:]...)
	for _, f := range op.Fences {
		n, err := e.fence(f)
		if err != nil {
			return err
		}
		b = binary.BigEndian.AppendUint16(b, n)
	}
	e.arena = b
	e.ops[at] = e.cut(from)
	return nil
}

// extras adds the writes that may come with any kind.
func (e *encoder) extras(op *persistence.Op, h *head) error {
	if s := op.Session; s != nil {
		h.flags |= opSession
		if len(s.Session.Tenant)+len(s.Session.ID) > maxName {
			return invalid("the session's id is too long", "use an id of at most 128 characters")
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
		e.ops = append(e.ops, e.sessions.add(agentField(s.Session.Tenant, s.Session.ID)), gen, enc)
	}
	if g := op.Gateway; g != nil {
		h.flags |= opGateway
		enc, err := encodeStatus(g)
		if err != nil {
			return err
		}
		e.ops = append(e.ops, g.ID, enc)
	}
	return nil
}

func (e *encoder) tail(t *messages.Task, at int) (err error) {
	from := len(e.arena)
	if e.arena, err = appendTail(e.arena, t); err != nil {
		return err
	}
	e.ops[at+1] = e.cut(from)
	return nil
}

func (e *encoder) update(u *persistence.TaskUpdate, h *head, at int) error {
	t := &u.Task
	h.kind, h.id, h.pool, h.seq = kindUpdate, e.ids.add(t.ID), e.pools.add(t.Pool), t.Seq
	h.cmp, h.to = stateClaim(u.From, u.FromClaim), stateClaim(t.State, t.Claim)
	if u.UnlessCancelled {
		h.flags |= opUnlessCancelled
	}
	if u.ClearCancel {
		h.flags |= opClearCancel
	}
	if t.Error.GetCode() != "" {
		h.flags |= opCode
	}
	return e.tail(t, at)
}

func (e *encoder) insert(in *persistence.TaskInsert, h *head, at int) error {
	t := &in.Task
	if len(t.ID)+len(t.Pool)+len(t.Tenant)+len(t.Session)+len(in.IdemKey) > maxName {
		return invalid("the names of a task are too long", "use ids of at most 128 characters")
	}
	h.kind, h.id, h.pool, h.seq, h.to = kindInsert, e.ids.add(t.ID), e.pools.add(t.Pool), t.Seq, stateClaim(t.State, t.Claim)
	binary.BigEndian.PutUint64(h.cmp[:], uint64(max(micros(t.CreatedAt), 0)))
	if t.Error.GetCode() != "" {
		h.flags |= opCode
	}
	if err := e.tail(t, at); err != nil {
		return err
	}
	from := len(e.arena)
	e.arena = appendNames(e.arena, t)
	names := e.cut(from)
	from = len(e.arena)
	var err error
	if e.arena, err = appendSpec(e.arena, t, in.IdemKey, in.IdemHash); err != nil {
		return err
	}
	e.ops = append(e.ops, names, e.cut(from))
	if in.IdemKey == "" {
		e.ops = append(e.ops, 0, "")
	} else {
		from = len(e.arena)
		e.arena = binary.BigEndian.AppendUint16(e.arena, uint16(len(t.ID)))
		e.arena = append(append(e.arena, t.ID...), in.IdemHash...)
		e.ops = append(e.ops, e.idem.add(idemField(t.Tenant, in.IdemKey)), e.cut(from))
	}
	e.ops = append(e.ops, t.Session)
	if t.CancelRequested() {
		h.flags |= opCancelled
		e.ops = append(e.ops, e.cancelRow(micros(t.Cancel.RequestedAt), t.Cancel.Reason))
	}
	for k := range t.Spec.GetLabels() {
		e.ops = append(e.ops, k)
	}
	return nil
}

func idemField(tenant, key string) string { return tenant + "\x00" + key }

func (e *encoder) cancelRow(at int64, reason string) []byte {
	from := len(e.arena)
	e.arena = append(binary.BigEndian.AppendUint64(e.arena, uint64(at)), reason...)
	return e.cut(from)
}

// appendEvent adds one length-prefixed entry without its seq, which its place
// in the log gives.
func appendEvent(buf []byte, e *messages.Event) ([]byte, error) {
	if e.Seq != 0 {
		e = proto.CloneOf(e)
		e.Seq = 0
	}
	// Room for a length of five bytes is left and closed up afterwards, which is
	// cheaper than to size the message first.
	at := len(buf)
	buf = append(buf, 0, 0, 0, 0, 0)
	buf, err := appendProto(buf, e)
	if err != nil {
		return nil, err
	}
	size := len(buf) - at - 5
	n := len(protowire.AppendVarint(buf[at:at:at+5], uint64(size)))
	copy(buf[at+n:], buf[at+5:])
	return buf[:at+n+size], nil
}

func invalid(what, next string) error {
	return &messages.Error{Code: messages.CodeInvalid, Message: what, NextStep: next}
}
