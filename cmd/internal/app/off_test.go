package app

import (
	"testing"
	"time"

	"github.com/dash-fleet/dash/cmd/internal/retention"
	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/persistence"
)

// TestFinishedTasksOfAnOldStoreStay until the time off is given back; they are
// not gone with the first sweep of a node that was restored from an old backup.
func TestFinishedTasksOfAnOldStoreStay(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	a := benchNode(t, dir, 0, 1, nil)
	if a.off.Took != 0 {
		t.Errorf("a new store: off for %s", a.off.Took)
	}
	last := messages.Now().Add(-60 * 24 * time.Hour)
	end := messages.Task{
		ID: messages.NewID(), Tenant: "default", Pool: "default", Class: messages.Low, State: messages.Succeeded, Spec: spec("x"),
		CreatedAt: last, FinishedAt: last,
	}
	task := end
	task.State, task.FinishedAt = messages.Queued, time.Time{}
	err := committed(t.Context(), a, persistence.Op{Insert: &persistence.TaskInsert{Task: task}}, persistence.Op{
		Update: &persistence.TaskUpdate{Task: end, From: messages.Queued}, Events: []*messages.Event{end.Event(messages.Queued, last, "")},
	})
	if err != nil {
		t.Fatal(err)
	}
	seq, err := a.store.LastSeq(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	off, err := retention.NewOff(t.Context(), a.store, seq)
	if err != nil || off.Took < 59*24*time.Hour {
		t.Fatalf("off for %s %v, want 60 days", off.Took, err)
	}
	w := &retention.Tasks{Store: a.store, Keep: 7 * 24 * time.Hour, Off: off, Works: a.works, Logger: a.logger}
	kept := func() bool {
		w.Step(t.Context())
		_, err := a.store.Task(t.Context(), task.Tenant, task.ID)
		return err == nil
	}
	if !kept() {
		t.Fatal("swept at once")
	}
	off.Began = time.Now().Add(-25 * time.Hour)
	if kept() {
		t.Error("kept for ever")
	}
}
