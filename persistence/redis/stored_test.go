package redis

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/dash-fleet/dash/messages"
)

// storedLine is a task or a session with the bytes that an older release kept of it.
type storedLine struct {
	Name    string
	Task    *messages.Task
	Session *messages.Session
	Key     string
	Hash    []byte

	Row     []byte `json:"redis_row"`
	Spec    []byte `json:"redis_spec"`
	Cancel  []byte `json:"redis_cancel"`
	Talking []byte `json:"redis_session"`
}

func (l *storedLine) check(t *testing.T) {
	t.Helper()
	if l.Session != nil {
		got, err := decodeSession(string(l.Talking))
		if d := cmp.Diff(got, *l.Session); d != "" || err != nil {
			t.Errorf("session %s: %v, -got +want:\n%s", l.Name, err, d)
		}
		return
	}
	r := row{id: l.Task.ID, task: string(l.Row), spec: string(l.Spec), cntrl: string(l.Cancel)}
	want := *l.Task
	if !want.CancelRequested() {
		want.Cancel.Reason = "" // the flag has a row of its own
	}
	got, key, hash, err := r.decode()
	if d := cmp.Diff(got, want, protocmp.Transform()); d != "" || err != nil {
		t.Errorf("task %s: %v, -got +want:\n%s", l.Name, err, d)
	}
	if key != l.Key || string(hash) != string(l.Hash) {
		t.Errorf("task %s: key %q and hash %q", l.Name, key, hash)
	}
}

// TestStoredBytes reads what older releases stored.
func TestStoredBytes(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("../../messages/wire/testdata/stored/*.jsonl")
	if err != nil || len(files) < 2 {
		t.Fatalf("%d files: %v", len(files), err)
	}
	for _, name := range files {
		f, err := os.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		lines := 0
		for d := json.NewDecoder(f); d.More(); lines++ {
			var line storedLine
			if err := d.Decode(&line); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			line.check(t)
		}
		if lines < 40 {
			t.Errorf("%s has %d lines", name, lines)
		}
	}
}
