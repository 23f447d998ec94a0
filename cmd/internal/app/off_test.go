package app

import (
	"testing"
	"time"

	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/persistence"
)

// TestTimeOffIsGivenBack: a restart of seconds puts nothing off, so that a node
// that restarts every night keeps its store small; a long time off counts a day.
func TestTimeOffIsGivenBack(t *testing.T) {
	t.Parallel()
	const day = 24 * time.Hour
	for _, c := range []struct {
		took, up, kept time.Duration
		want           bool
	}{
		{took: 0, up: 0, kept: 30 * day, want: true},
		{took: time.Minute, up: 30 * time.Second, kept: 30 * day},
		{took: time.Minute, up: 2 * time.Minute, kept: 30 * day, want: true},
		{took: 60 * day, up: 23 * time.Hour, kept: 30 * day},
		{took: 60 * day, up: 25 * time.Hour, kept: 30 * day, want: true},
		{took: 60 * day, up: 2 * time.Hour, kept: time.Hour, want: true},
	} {
		if got := (off{began: time.Now().Add(-c.up), took: c.took}).over(c.kept); got != c.want {
			t.Errorf("off for %s, up for %s, kept for %s: %v", c.took, c.up, c.kept, got)
		}
	}
}

// TestFinishedTasksOfAnOldStoreStay until the time off is given back; they are
// not gone with the first sweep of a node that was restored from an old backup.
func TestFinishedTasksOfAnOldStoreStay(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	a := benchNode(t, dir, 0, 1, nil)
	a.cfg.Retention = 7 * 24 * time.Hour
	if a.off.took != 0 {
		t.Errorf("a new store: off for %s", a.off.took)
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
	took, err := silence(t.Context(), a.store, seq)
	if err != nil || took < 59*24*time.Hour {
		t.Fatalf("off for %s %v, want 60 days", took, err)
	}
	kept := func() bool {
		a.sweep(t.Context())
		_, err := a.store.Task(t.Context(), task.Tenant, task.ID)
		return err == nil
	}
	a.off = off{began: time.Now(), took: took}
	if !kept() {
		t.Fatal("swept at once")
	}
	a.off.began = time.Now().Add(-25 * time.Hour)
	if kept() {
		t.Error("kept for ever")
	}
}
