package rows

import (
	"bytes"
	"strings"
	"testing"

	"github.com/dash-fleet/dash/messages"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// TestTaskEventIsEncodedAsProtobufDoes sets every field that the messages have,
// so that one which is added later fails here until the encoder knows it.
func TestTaskEventIsEncodedAsProtobufDoes(t *testing.T) {
	t.Parallel()
	for _, size := range []int{1, 9, 40, 1500, 40_000} {
		full := &messages.Event{Data: &messages.Event_Task{Task: &messages.TaskChanged{}}}
		setAll(full.ProtoReflect(), size)
		setAll(full.GetTask().ProtoReflect(), size)
		setAll(full.GetTask().Error.ProtoReflect(), size)
		full.Seq = 0
		checkEncoded(t, full)
		full.GetTask().ProtoReflect().Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
			one := &messages.Event{Subject: "x", Data: &messages.Event_Task{Task: &messages.TaskChanged{}}}
			one.GetTask().ProtoReflect().Set(f, v)
			checkEncoded(t, one)
			return true
		})
	}
	checkEncoded(t, &messages.Event{Data: &messages.Event_Task{Task: &messages.TaskChanged{QueueSeq: -1, Claim: -5, Attempt: -1}}})
}

func setAll(m protoreflect.Message, size int) {
	fields := m.Descriptor().Fields()
	for i := range fields.Len() {
		switch f := fields.Get(i); {
		case f.IsList() || f.IsMap() || f.ContainingOneof() != nil:
		case f.Kind() == protoreflect.StringKind:
			m.Set(f, protoreflect.ValueOfString(strings.Repeat("ä", size)))
		case f.Kind() == protoreflect.Int64Kind:
			m.Set(f, protoreflect.ValueOfInt64(int64(size)<<20))
		case f.Kind() == protoreflect.Int32Kind:
			m.Set(f, protoreflect.ValueOfInt32(int32(size)))
		case f.Kind() == protoreflect.MessageKind:
			m.Mutable(f)
		}
	}
}

func checkEncoded(t *testing.T, e *messages.Event) {
	t.Helper()
	want, err := proto.Marshal(e)
	if err != nil {
		t.Fatal(err)
	}
	got, ok := appendTaskEvent([]byte("before"), e)
	if !ok || !bytes.Equal(got, append([]byte("before"), want...)) {
		t.Errorf("event with %d bytes: ok %t, got %d bytes %.60x, want %.60x", len(want), ok, len(got)-6, got[min(6, len(got)):], want)
	}
}

func TestTaskEventLeavesTheRestToProtobuf(t *testing.T) {
	t.Parallel()
	newer := &messages.Event{Subject: "x", Data: &messages.Event_Task{Task: &messages.TaskChanged{Pool: "p"}}}
	newer.GetTask().ProtoReflect().SetUnknown(protowire.AppendVarint(protowire.AppendTag(nil, 1000, protowire.VarintType), 7))
	for name, e := range map[string]*messages.Event{
		"a newer field":          newer,
		"text that is not UTF-8": {Subject: "x", Data: &messages.Event_Task{Task: &messages.TaskChanged{Reason: "a\xff"}}},
		"another kind":           {Subject: "x", Data: &messages.Event_Gateway{Gateway: &messages.GatewayChanged{Pool: "p"}}},
		"no data":                {Subject: "x"},
	} {
		if got, ok := appendTaskEvent([]byte("before"), e); ok || string(got) != "before" {
			t.Errorf("%s: ok %t, %q", name, ok, got)
		}
		if enc, err := AppendEvent(nil, e); err != nil || len(enc) == 0 {
			t.Errorf("%s: %d bytes, %v", name, len(enc), err)
		}
	}
}

func TestReadEvents(t *testing.T) {
	t.Parallel()
	var entries []byte
	for seq := range int64(5) {
		var err error
		if entries, err = AppendEvent(entries, &messages.Event{Seq: seq + 10, Subject: string(rune('a' + seq))}); err != nil {
			t.Fatal(err)
		}
	}
	events, err := ReadEvents(nil, 10, entries, 10, 3)
	if err != nil || len(events) != 3 || events[0].Seq != 11 || events[0].Subject != "b" || events[2].Seq != 13 || events[2].Subject != "d" {
		t.Errorf("read %v, %v", events, err)
	}
	if events, err := ReadEvents(nil, 10, entries[:len(entries)-1], 0, 10); err == nil || len(events) != 4 {
		t.Errorf("a cut row gave %d events, %v", len(events), err)
	}
}
