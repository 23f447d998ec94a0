package rows

import (
	"fmt"
	"unicode/utf8"

	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/messages/wire"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
)

// AppendEvent adds one entry of the event log behind buf: its length and the
// event without its seq, which its place in the log gives.
func AppendEvent(buf []byte, e *messages.Event) ([]byte, error) {
	if e.Seq != 0 {
		e = proto.CloneOf(e)
		e.Seq = 0
	}
	// Room for the length is left and closed up afterwards, which is cheaper
	// than to size the message first.
	const room = 2
	at := len(buf)
	buf = append(buf, make([]byte, room)...)
	buf, ok := appendTaskEvent(buf, e)
	if !ok {
		var err error
		if buf, err = wire.Append(buf, e); err != nil {
			return nil, err
		}
	}
	return closeUp(buf, at, room), nil
}

// ReadEvents adds to events the entries that AppendEvent wrote, the first with
// seq first, leaving out those up to since and stopping at limit of all.
func ReadEvents(events []*messages.Event, first int64, entries []byte, since int64, limit int) ([]*messages.Event, error) {
	for seq := first; len(entries) > 0 && len(events) < limit; seq++ {
		enc, n := protowire.ConsumeBytes(entries)
		if n < 0 {
			return events, fmt.Errorf("event %d: %w", seq, protowire.ParseError(n))
		}
		entries = entries[n:]
		if seq <= since {
			continue
		}
		e := &messages.Event{}
		if err := proto.Unmarshal(enc, e); err != nil {
			return events, fmt.Errorf("event %d: %w", seq, err)
		}
		e.Seq = seq
		events = append(events, e)
	}
	return events, nil
}

// appendTaskEvent encodes an event of a task as proto.Marshal would, without
// its seq, at a third of the cost: every step of every task has one. ok is
// false for any other event, for fields that a newer Dash wrote and for text
// that is not UTF-8; buf is then as it was.
func appendTaskEvent(buf []byte, e *messages.Event) (out []byte, ok bool) {
	data, isTask := e.Data.(*messages.Event_Task)
	if !isTask || data.Task == nil || len(e.ProtoReflect().GetUnknown()) > 0 || len(data.Task.ProtoReflect().GetUnknown()) > 0 {
		return buf, false
	}
	b := appender{buf: buf, ok: true}
	b.number(2, e.TimeMicros)
	b.text(3, e.Tenant)
	b.text(4, e.Type)
	b.text(5, e.Subject)
	b.buf = protowire.AppendTag(b.buf, 6, protowire.BytesType)
	// The length of most takes two bytes; room for them is left.
	at := len(b.buf)
	b.buf = append(b.buf, 0, 0)
	b.taskChanged(data.Task)
	if !b.ok {
		return buf, false
	}
	return closeUp(b.buf, at, 2), true
}

func (b *appender) taskChanged(t *messages.TaskChanged) {
	b.text(1, t.Pool)
	b.text(2, t.Class)
	b.number(3, t.QueueSeq)
	b.text(4, t.State)
	b.text(5, t.From)
	b.number(6, t.Claim)
	b.number(7, int64(t.Attempt))
	b.text(8, t.Session)
	b.text(9, t.Gateway)
	b.text(10, t.RunId)
	b.text(11, t.Reason)
	if t.Error == nil || !b.ok {
		return
	}
	enc, err := proto.Marshal(t.Error)
	if err != nil {
		b.ok = false
		return
	}
	b.buf = protowire.AppendBytes(protowire.AppendTag(b.buf, 12, protowire.BytesType), enc)
}

// appender appends fields of proto3: zero values have no place in it.
type appender struct {
	buf []byte
	ok  bool
}

func (b *appender) number(n protowire.Number, v int64) {
	if v != 0 {
		b.buf = protowire.AppendVarint(protowire.AppendTag(b.buf, n, protowire.VarintType), uint64(v))
	}
}

func (b *appender) text(n protowire.Number, s string) {
	if s == "" {
		return
	}
	b.ok = b.ok && utf8.ValidString(s)
	b.buf = protowire.AppendString(protowire.AppendTag(b.buf, n, protowire.BytesType), s)
}

// closeUp writes the length of what lies behind buf[at+room:] into the room
// that was left for it, and moves it if the length takes another size.
func closeUp(buf []byte, at, room int) []byte {
	size := len(buf) - at - room
	head := protowire.SizeVarint(uint64(size))
	switch {
	case head > room:
		buf = append(buf, make([]byte, head-room)...)
		copy(buf[at+head:], buf[at+room:at+room+size])
	case head < room:
		copy(buf[at+head:], buf[at+room:])
		buf = buf[:at+head+size]
	}
	protowire.AppendVarint(buf[at:at:at+head], uint64(size))
	return buf
}
