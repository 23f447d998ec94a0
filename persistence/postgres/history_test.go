package postgres

import (
	"testing"
	"time"

	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/persistence"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/testing/protocmp"
)

func TestHistory(t *testing.T) {
	t.Parallel()
	db := openTest(t, testConfig(t))
	h := db.History()
	if m, err := h.Mark(t.Context()); err != nil || m != (persistence.HistoryMark{}) {
		t.Fatalf("mark of an empty history: %+v, %v", m, err)
	}
	open := messages.Task{
		ID: "a", Tenant: "acme", Pool: "p", Class: messages.High, Seq: 7, State: messages.Queued, Claim: 2, Session: "s", Generation: 3, CreatedAt: messages.Now(),
		Spec: &messages.TaskSpec{Message: "Grüße\x00 🦞", Labels: map[string]string{"k": "v"}, Backoff: &messages.Backoff{InitialSeconds: 1, Factor: 2}, Capabilities: []string{"web"}},
	}
	done := open
	done.ID, done.State, done.FinishedAt, done.Result = "b", messages.Succeeded, messages.Now(), &messages.TaskResult{Text: "yes", InputTokens: 1 << 40}
	done.Cancel = messages.Cancel{RequestedAt: messages.Now(), Reason: "r", Confirmed: messages.Confirmed}
	done.Error = &messages.TaskError{Code: "c", Message: "m", Retryable: true}
	records := []persistence.HistoryRecord{{Task: open, IdemKey: "k\x00\xff", IdemHash: []byte{0, 255}, Rev: 5}, {Task: done, Rev: 6}}
	mark := persistence.HistoryMark{Dataset: "d", Batch: 6, Seq: 9, At: messages.Now()}
	save := func(m persistence.HistoryMark, list ...persistence.HistoryRecord) {
		t.Helper()
		if err := h.Save(t.Context(), m, list); err != nil {
			t.Fatal(err)
		}
	}
	save(mark, records...)
	save(mark, records...) // repeating it is harmless
	since := func(rev int64, after string, want ...persistence.HistoryRecord) {
		t.Helper()
		got, err := h.Since(t.Context(), rev, after, 10)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(got, append([]persistence.HistoryRecord{}, want...), protocmp.Transform()); d != "" {
			t.Fatalf("since %d after %q (-got +want):\n%s", rev, after, d)
		}
	}
	since(0, "", records...)
	since(0, "a", records[1])
	since(6, "", records[0]) // open tasks always come
	// An older row and an older mark change nothing; of two in one call the newer counts.
	old, newer := records[1], records[0]
	old.Rev, old.Task.State = 4, messages.Queued
	newer.Rev, newer.Task.State, newer.Task.FinishedAt = 8, messages.Cancelled, messages.Now()
	save(persistence.HistoryMark{Dataset: "old", Batch: 5, At: mark.At}, old, newer, records[0])
	since(0, "", newer, records[1])
	if got, err := h.Mark(t.Context()); err != nil || got != mark {
		t.Errorf("mark %+v, %v, want %+v", got, err, mark)
	}
	save(mark) // nothing but a mark
	if n, err := h.Sweep(t.Context(), time.Now().Add(time.Hour), 1); err != nil || n != 1 {
		t.Errorf("swept %d, %v", n, err)
	}
	if n, err := h.Sweep(t.Context(), time.Now().Add(time.Hour), 10); err != nil || n != 1 {
		t.Errorf("swept %d, %v", n, err)
	}
	since(0, "")
}
