package rows

import (
	"bytes"
	"fmt"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/messages/wire"
)

// A list shows no texts of tasks, and a store must not read them for it. So an
// engine hands over the begin and the end of a long value, and what is missing
// between them is the text: everything else in a spec or a run is short.
const (
	// BriefHead and BriefTail are how much is read of a long value's two ends.
	BriefHead = 8 << 10
	BriefTail = 8 << 10
)

// Cut is a value of Size bytes of which only the two ends were read; together
// they are the value, where Size is not more than both.
type Cut struct {
	Head, Tail []byte
	Size       int64
}

// The ways to the long texts.
var (
	specText = []protowire.Number{1}     // TaskSpec.message
	runText  = []protowire.Number{13, 1} // wire.Run.result, TaskResult.text
)

// Whole says that nothing is missing.
func (c Cut) Whole() bool { return int64(len(c.Head)+len(c.Tail)) >= c.Size }

// Drop returns the encoding without the text that path leads to, and how long
// that is. ok is false if something else is missing as well: the row must then
// be read in full. A value that is whole stays as it is.
func (c Cut) Drop(path ...protowire.Number) (rest []byte, text int64, ok bool) {
	if c.Whole() {
		return append(bytes.Clone(c.Head), c.Tail...), 0, true
	}
	for at := 0; at < len(c.Head); {
		n, typ, tag := protowire.ConsumeTag(c.Head[at:])
		if tag < 0 {
			return nil, 0, false
		}
		if typ != protowire.BytesType {
			size := protowire.ConsumeFieldValue(n, typ, c.Head[at+tag:])
			if size < 0 {
				return nil, 0, false
			}
			at += tag + size
			continue
		}
		length, size := protowire.ConsumeVarint(c.Head[at+tag:])
		begin := at + tag + size
		if size < 0 || length > uint64(max(0, c.Size-int64(begin))) {
			return nil, 0, false
		}
		behind := c.Size - int64(begin) - int64(length) // bytes of the value behind the field
		switch {
		case int64(length) <= int64(len(c.Head)-begin):
			at = begin + int(length)
			continue
		case n != path[0] || behind > int64(len(c.Tail)):
			return nil, 0, false
		}
		after := c.Tail[len(c.Tail)-int(behind):]
		if len(path) == 1 {
			return append(bytes.Clone(c.Head[:at]), after...), int64(length), true
		}
		inner := Cut{Head: c.Head[begin:], Tail: c.Tail[:len(c.Tail)-int(behind)], Size: int64(length)}
		kept, text, ok := inner.Drop(path[1:]...)
		if !ok {
			return nil, 0, false
		}
		rest = protowire.AppendBytes(bytes.Clone(c.Head[:at+tag]), kept)
		return append(rest, after...), text, true
	}
	return nil, 0, false
}

// DecodeBrief sets a task's spec and what wire.EncodeRun wrote, without a text that
// was not read. ok is false if the row must be read in full.
func DecodeBrief(t *messages.Task, spec, run Cut) (ok bool, err error) {
	var left messages.Brief
	s, message, ok := spec.Drop(specText...)
	if !ok {
		return false, nil
	}
	r, text, ok := run.Drop(runText...)
	if !ok {
		return false, nil
	}
	if left.Message, left.Text = message, text; left != (messages.Brief{}) {
		t.Brief = &left
	}
	if spec.Size > 0 {
		t.Spec = &messages.TaskSpec{}
		if err := proto.Unmarshal(s, t.Spec); err != nil {
			return false, fmt.Errorf("task %s: decode spec: %w", t.ID, err)
		}
	}
	if err := wire.DecodeRun(t, r); err != nil {
		return false, fmt.Errorf("task %s: %w", t.ID, err)
	}
	return true, nil
}

// Shorten takes the texts out of a task that was read in full.
func Shorten(t *messages.Task) {
	t.Brief = &messages.Brief{Message: int64(len(t.Spec.GetMessage())), Text: int64(len(t.Result.GetText()))}
	if t.Spec != nil {
		t.Spec.Message = ""
	}
	if t.Result != nil {
		t.Result.Text = ""
	}
}
