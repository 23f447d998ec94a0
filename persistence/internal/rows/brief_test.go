package rows

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/testing/protocmp"
	"pgregory.net/rapid"

	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/messages/wire"
)

func cut(b []byte) Cut {
	n := len(b)
	head := min(n, BriefHead)
	return Cut{Head: b[:head], Tail: b[max(head, n-BriefTail):], Size: int64(n)}
}

// TestBrief: whatever was stored comes back from the two ends but for the texts,
// whose lengths are told, or the row is said to need a whole reading.
func TestBrief(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		text := func(name string) string { return rapid.String().Draw(t, name) }
		want := messages.Task{
			Attempt: rapid.Int32().Draw(t, "attempt"), Generation: rapid.Int64().Draw(t, "generation"), BootID: text("boot"), ObservedRunID: text("observed"),
			StartedAt: messages.FromMicros(rapid.Int64Range(0, 1<<52).Draw(t, "started")), ReplayedBy: text("replayed by"),
			Spec: &messages.TaskSpec{Labels: map[string]string{text("key"): text("value")}, TimeoutSeconds: 5},
		}
		if rapid.Bool().Draw(t, "has trials") {
			want.Trials = &messages.Trials{GivenBackReason: text("why"), Deaths: []*messages.GatewayDeath{{Gateway: text("died")}}}
		}
		if rapid.Bool().Draw(t, "has ended") {
			want.Result = &messages.TaskResult{}
		}
		long := func(name string) string {
			return strings.Repeat("x", rapid.SampledFrom([]int{0, 1, BriefHead - 50, BriefHead, BriefHead + BriefTail, 3 * BriefHead, 100 << 10}).Draw(t, name))
		}
		want.Spec.Message, want.Spec.Model, want.Spec.Region = long("message"), "m", "r"
		if want.Result != nil {
			want.Result.Text, want.Result.CutFrom = long("text"), 7
		}
		spec, err := wire.Marshal(want.Spec)
		if err != nil {
			t.Fatal(err)
		}
		run, err := wire.EncodeRun(&want)
		if err != nil {
			t.Fatal(err)
		}
		got := want
		got.Spec, got.Result, got.Trials = nil, nil, nil
		ok, err := DecodeBrief(&got, cut(spec), cut(run))
		if err != nil {
			t.Fatal(err)
		}
		if !ok {
			if len(spec)-len(want.Spec.Message) < 4<<10 && len(run)-len(want.Result.GetText()) < 4<<10 {
				t.Fatalf("a spec of %d and a run of %d bytes were not understood", len(spec), len(run))
			}
			return
		}
		if b := got.Brief; b != nil && b.Message > 0 {
			if b.Message != int64(len(want.Spec.Message)) {
				t.Fatalf("message of %d bytes told as %d", len(want.Spec.Message), b.Message)
			}
			want.Spec.Message = ""
		}
		if b := got.Brief; b != nil && b.Text > 0 {
			if b.Text != int64(len(want.Result.Text)) {
				t.Fatalf("text of %d bytes told as %d", len(want.Result.Text), b.Text)
			}
			want.Result.Text = ""
		}
		want.Brief = got.Brief
		if d := cmp.Diff(got, want, protocmp.Transform()); d != "" {
			t.Fatalf("-got +want:\n%s", d)
		}
	})
}

// FuzzBrief: bytes that nobody wrote are refused, and end no process.
func FuzzBrief(f *testing.F) {
	f.Add([]byte("\x0a\xff\xff\x03abc"), []byte("tail"), int64(60_000))
	f.Add([]byte{0x6a, 0x80, 0x80, 0x04, 0x0a, 0xf0, 0xff, 0x03, 'x'}, []byte{0x12, 0x00}, int64(65_545))
	f.Fuzz(func(t *testing.T, head, tail []byte, size int64) {
		c := Cut{Head: head, Tail: tail, Size: size}
		for _, path := range [][]protowire.Number{specText, runText} {
			if rest, text, ok := c.Drop(path...); ok && (text < 0 || len(rest) > len(head)+len(tail)+10) {
				t.Fatalf("%d bytes left, a text of %d", len(rest), text)
			}
		}
		_, _ = DecodeBrief(&messages.Task{}, c, c)
	})
}
