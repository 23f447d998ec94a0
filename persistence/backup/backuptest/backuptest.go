// Package backuptest proves that an engine's snapshots are whole and that a
// restore brings everything back, through archives as users make them.
package backuptest

import (
	"bytes"
	"context"
	"errors"
	"iter"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/persistence"
	"github.com/dash-fleet/dash/persistence/backup"
)

// Store is an open store of its own data.
type Store interface {
	Store() persistence.Store
	Repositories() persistence.Repositories
	// Source opens the store's data for a backup, beside the open store.
	Source(t testing.TB) persistence.Snapshotter
}

// Engine makes stores. What it opens is closed with t.
type Engine interface {
	// New opens an empty store.
	New(t testing.TB) Store
	// Blank is the data of a store that was never opened.
	Blank(t testing.TB) Blank
}

// Blank is where a restore goes.
type Blank interface {
	// Target opens the data for a restore; the caller closes it.
	Target(t testing.TB) persistence.Restorer
	// Open opens the store on the data, as a node would.
	Open(t testing.TB) Store
}

// Run checks an engine.
func Run(t *testing.T, e Engine) {
	for name, test := range map[string]func(*testing.T, Engine){
		"round trip": func(t *testing.T, e Engine) { Across(t, e, e) }, "empty store": emptyStore, "under load": underLoad, "not empty": notEmpty, "all or nothing": allOrNothing,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, e)
		})
	}
}

// archive backs up s.
func archive(t *testing.T, s Store) (*bytes.Reader, *backup.Manifest) {
	t.Helper()
	src := s.Source(t)
	defer closes(t, src)
	snap, err := src.Snapshot(t.Context())
	if err != nil {
		t.Fatalf("snapshot: %v", err)
	}
	defer closes(t, snap)
	var b bytes.Buffer
	m, err := backup.Write(t.Context(), &b, snap, backup.Options{By: "test"})
	if err != nil {
		t.Fatalf("backup: %v", err)
	}
	return bytes.NewReader(b.Bytes()), m
}

func closes(t *testing.T, c interface{ Close() error }) {
	t.Helper()
	if err := c.Close(); err != nil {
		t.Errorf("close: %v", err)
	}
}

func restore(t *testing.T, to Blank, a *bytes.Reader) *backup.Manifest {
	t.Helper()
	target := to.Target(t)
	defer closes(t, target)
	m, err := backup.Restore(t.Context(), target, a, nil, nil, nil)
	if err != nil {
		t.Fatalf("restore: %v", err)
	}
	return m
}

// Across backs up a full store of one engine and restores it on another.
func Across(t *testing.T, source, destination Engine) {
	from := source.New(t)
	fill(t, from)
	before := view(t, from)
	a, m := archive(t, from)
	for s, n := range m.Counts {
		if n == 0 {
			t.Errorf("section %s is empty", s)
		}
	}
	if len(m.Counts) != 13 {
		t.Errorf("the archive has %d sections, want all 13: %v", len(m.Counts), m.Counts)
	}
	blank := destination.Blank(t)
	if diff := cmp.Diff(m.Counts, restore(t, blank, a).Counts); diff != "" {
		t.Errorf("counts after the restore (-want +got):\n%s", diff)
	}
	to := blank.Open(t)
	after := view(t, to)
	// Owners are gone and epochs have grown: whoever wrote before is fenced.
	for i := range before.Owners {
		before.Owners[i].Owner = ""
		before.Owners[i].Epoch++
	}
	if diff := cmp.Diff(before, after, protocmp.Transform()); diff != "" {
		t.Fatalf("the restored store differs (-want +got):\n%s", diff)
	}
	goesOn(t, from, to)
}

// goesOn works with the restored store as a node does.
func goesOn(t *testing.T, from, to Store) {
	ctx := t.Context()
	for _, task := range view(t, to).Tasks {
		if task.ID != keyed {
			continue
		}
		twin := newTask("twin")
		out, err := to.Store().Commit(ctx, []persistence.Op{{Insert: &persistence.TaskInsert{Task: twin, IdemKey: "key", IdemHash: []byte("hash")}}})
		if err != nil {
			t.Fatal(err)
		}
		if out[0].Status != persistence.Duplicate || !out[0].SameBody || out[0].Current.ID != keyed {
			t.Errorf("the idempotency key was lost: %+v", out[0])
		}
	}
	last, err := from.Store().LastSeq(ctx)
	if err != nil {
		t.Fatal(err)
	}
	ev := &messages.Event{Type: "task.state", Subject: "next"}
	insert := persistence.Op{Insert: &persistence.TaskInsert{Task: newTask("next")}, Events: []*messages.Event{ev}}
	if out, err := to.Store().Commit(ctx, []persistence.Op{insert}); err != nil || out[0].Status != persistence.OK {
		t.Fatalf("commit: %v %v", out, err)
	}
	if ev.GetSeq() != last+1 {
		t.Errorf("the next event has seq %d, want %d", ev.GetSeq(), last+1)
	}
	if _, err := to.Store().Renew(ctx, messages.Node{ID: "n2"}, lease); err != nil {
		t.Fatal(err)
	}
	f, err := to.Store().Take(ctx, messages.ShardScope, "7", "n2")
	if err != nil {
		t.Fatal(err)
	}
	newestEnd(t, to, f)
	old := messages.Fence{Scope: messages.ShardScope, Key: "7", Owner: "n1", Epoch: f.Epoch - 1}
	out, err := to.Store().Commit(ctx, []persistence.Op{{Fences: []messages.Fence{old}, Insert: &persistence.TaskInsert{Task: newTask("late")}}})
	if err != nil || out[0].Status != persistence.Fenced {
		t.Errorf("the owner of before the backup is not fenced: %v %v", out, err)
	}
	if _, err := to.Repositories().Audit.Verify(ctx); err != nil {
		t.Errorf("audit: %v", err)
	}
	if _, err := to.Repositories().Audit.Append(ctx, persistence.AuditEntry{Time: messages.Now(), Actor: "system", Action: "restore"}); err != nil {
		t.Errorf("append to the restored audit log: %v", err)
	}
	if _, err := to.Repositories().Audit.Verify(ctx); err != nil {
		t.Errorf("audit after another row: %v", err)
	}
}

// newestEnd: what ends after the restore is the end of its session's transcript.
func newestEnd(t *testing.T, to Store, f messages.Fence) {
	t.Helper()
	task, err := to.Store().Task(t.Context(), "", "task-4") // of session s-1
	if err != nil {
		t.Fatal(err)
	}
	task.State, task.FinishedAt, task.Result = messages.Succeeded, messages.Now(), &messages.TaskResult{Text: "late"}
	end := persistence.Op{Fences: []messages.Fence{f}, Update: &persistence.TaskUpdate{Task: task, From: messages.Queued}, Events: []*messages.Event{event(task.ID, "ended")}}
	if out, err := to.Store().Commit(t.Context(), []persistence.Op{end}); err != nil || out[0].Status != persistence.OK {
		t.Fatalf("commit: %v %v", out, err)
	}
	list, _, err := to.Store().Transcript(t.Context(), "default", task.Session, "", 0)
	if err != nil {
		t.Fatal(err)
	}
	if len(list) < 2 || list[len(list)-1].ID != task.ID {
		t.Errorf("a transcript of %d tasks does not end with the task that ended last", len(list))
	}
}

func emptyStore(t *testing.T, e Engine) {
	from := e.New(t)
	a, m := archive(t, from)
	blank := e.Blank(t)
	restore(t, blank, a)
	to := blank.Open(t)
	if diff := cmp.Diff(view(t, from), view(t, to), protocmp.Transform()); diff != "" {
		t.Errorf("an empty store does not come back as one (-want +got):\n%s", diff)
	}
	if m.Source.Mark.Seq != 0 || m.Source.Mark.Time.IsZero() {
		t.Errorf("mark %+v", m.Source.Mark)
	}
}

// notEmpty: a store that holds something is refused and stays as it is.
func notEmpty(t *testing.T, e Engine) {
	from := e.New(t)
	fill(t, from)
	a, _ := archive(t, from)
	blank := e.Blank(t)
	restore(t, blank, a)
	target := blank.Target(t)
	_, err := backup.Restore(t.Context(), target, a, nil, nil, nil)
	closes(t, target)
	var not *persistence.NotEmptyError
	if !errors.As(err, &not) || !errors.Is(err, persistence.ErrNotEmpty) || len(not.Holds) == 0 {
		t.Errorf("restore into a full store: %v", err)
	}
	if n := len(view(t, blank.Open(t)).Tasks); n != len(view(t, from).Tasks) {
		t.Errorf("the refused restore left %d tasks", n)
	}
}

// allOrNothing: a restore that breaks off leaves an empty store.
func allOrNothing(t *testing.T, e Engine) {
	from := e.New(t)
	fill(t, from)
	broken := errors.New("the archive ends here")
	blank := e.Blank(t)
	target := blank.Target(t)
	src := from.Source(t)
	defer closes(t, src)
	snap, err := src.Snapshot(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	_, err = target.Restore(t.Context(), snap.Source().Mark, cut(t.Context(), snap, broken))
	closes(t, snap)
	closes(t, target)
	if !errors.Is(err, broken) {
		t.Fatalf("restore of a broken archive: %v", err)
	}
	a, m := archive(t, from)
	if diff := cmp.Diff(m.Counts, restore(t, blank, a).Counts); diff != "" {
		t.Errorf("counts after the second restore (-want +got):\n%s", diff)
	}
}

// cut gives all rows and then an error.
func cut(ctx context.Context, snap persistence.Snapshot, broken error) iter.Seq2[any, error] {
	return func(yield func(any, error) bool) {
		stopped := errors.New("stopped")
		err := snap.Rows(ctx, func(row any) error {
			if !yield(row, nil) {
				return stopped
			}
			return nil
		})
		if errors.Is(err, stopped) {
			return
		}
		yield(nil, errors.Join(err, broken))
	}
}
