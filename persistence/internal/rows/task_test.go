package rows

import (
	"reflect"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/testing/protocmp"
	"pgregory.net/rapid"

	"github.com/dash-fleet/dash/messages"
)

func anyTask(t *rapid.T) messages.Task {
	text := func(name string) string { return rapid.String().Draw(t, name) }
	number := func(name string) int64 { return rapid.Int64().Draw(t, name) }
	at := func(name string) time.Time {
		return FromMicros(rapid.OneOf(rapid.Just(int64(0)), rapid.Int64Range(1, 1<<52)).Draw(t, name))
	}
	task := messages.Task{
		ID: text("id"), Tenant: text("tenant"), Pool: text("pool"), Class: messages.Class(rapid.IntRange(0, 3).Draw(t, "class")), Seq: number("seq"),
		State: messages.TaskState(rapid.IntRange(0, 20).Draw(t, "state")), Claim: number("claim"), Attempt: rapid.Int32().Draw(t, "attempt"), Replays: rapid.Int32().Draw(t, "replays"),
		Session: text("session"), Generation: number("generation"), Gateway: text("gateway"), BootID: text("boot"), ObservedRunID: text("observed"),
		Stopping:  messages.StopReason(rapid.IntRange(0, 5).Draw(t, "stopping")),
		Cancel:    messages.Cancel{RequestedAt: at("cancel"), Reason: text("reason"), Confirmed: messages.Confirmation(rapid.IntRange(0, 3).Draw(t, "confirmed"))},
		CreatedAt: at("created"), DueAt: at("due"), NotAfter: at("not after"), ClaimedAt: at("claimed"), StartedAt: at("started"), FinishedAt: at("finished"),
		Active: time.Duration(rapid.Int64Range(0, 1<<40).Draw(t, "active")) * time.Microsecond, ActiveSince: at("active since"),
	}
	if rapid.Bool().Draw(t, "has trials") {
		task.Trials = &messages.Trials{GivenBack: rapid.Int32().Draw(t, "given back"), GivenBackReason: text("why"),
			Deaths: []*messages.GatewayDeath{{Gateway: text("died"), TimeMicros: number("died at"), Alone: rapid.Bool().Draw(t, "alone")}}}
	}
	if rapid.Bool().Draw(t, "has a spec") {
		task.Spec = &messages.TaskSpec{Message: text("message"), Labels: map[string]string{text("key"): text("value")}, TimeoutSeconds: 5}
	}
	if rapid.Bool().Draw(t, "has ended") {
		task.Result, task.Error = &messages.TaskResult{Text: text("result")}, &messages.TaskError{Code: text("code")}
	}
	return task
}

// TestTask: what is encoded comes back, and bytes cut short are refused or give
// another task, but never end the process.
func TestTask(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		want := anyTask(t)
		b, err := EncodeTask(&want)
		if err != nil {
			t.Fatal(err)
		}
		got, err := DecodeTask(b)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(got, want, protocmp.Transform()); d != "" {
			t.Fatalf("-got +want:\n%s", d)
		}
		cut, err := DecodeTask(b[:rapid.IntRange(0, len(b)-1).Draw(t, "cut")])
		if err == nil && cmp.Equal(cut, want, protocmp.Transform()) && want.Attempt != 0 {
			t.Fatal("a task came back whole from a part of its bytes")
		}
	})
}

// TestEveryField fails when a field is added to Task and not to its encoding.
func TestEveryField(t *testing.T) {
	t.Parallel()
	at := time.UnixMicro(1).UTC()
	want := messages.Task{
		ID: "a", Tenant: "b", Pool: "c", Class: 1, Seq: 2, State: 3, Claim: 4, Attempt: 5, Replays: 6, ReplayedBy: "i", ReplayedAt: at, Session: "d", Generation: 7, Gateway: "e", BootID: "f",
		ObservedRunID: "g", Stopping: 1, Spec: &messages.TaskSpec{Message: "m"}, Cancel: messages.Cancel{RequestedAt: at, Reason: "h", Confirmed: 1},
		Result: &messages.TaskResult{Text: "r"}, Error: &messages.TaskError{Code: "x"},
		CreatedAt: at, DueAt: at, NotAfter: at, ClaimedAt: at, StartedAt: at, FinishedAt: at,
		Active: time.Microsecond, ActiveSince: at, Trials: &messages.Trials{GivenBack: 1},
	}
	everySet(t, want)
	b, err := EncodeTask(&want)
	if err != nil {
		t.Fatal(err)
	}
	got, err := DecodeTask(b)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(got, want, protocmp.Transform()); d != "" {
		t.Errorf("-got +want:\n%s", d)
	}
}

func everySet(t *testing.T, task messages.Task) {
	t.Helper()
	v := reflect.ValueOf(task)
	for i := range v.NumField() {
		if v.Field(i).IsZero() && v.Type().Field(i).Name != "Brief" { // that is how it was read
			t.Errorf("field %s is not in this test: add it here and to EncodeTask", v.Type().Field(i).Name)
		}
	}
}
