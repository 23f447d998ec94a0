package wire

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/dash-fleet/dash/messages"
)

// TestStoredBytes reads what older releases stored, see testdata/stored/README.md.
func TestStoredBytes(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/stored/*.jsonl")
	if err != nil || len(files) < 2 {
		t.Fatalf("%d files: %v", len(files), err)
	}
	for _, name := range files {
		f, err := os.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		tasks := 0
		for d := json.NewDecoder(f); d.More(); {
			var line struct {
				Name         string
				Task         *messages.Task
				Run, History []byte
			}
			if err := d.Decode(&line); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			if line.Task == nil {
				continue
			}
			tasks++
			got, err := DecodeTask(line.History)
			if d := cmp.Diff(got, *line.Task, protocmp.Transform()); d != "" || err != nil {
				t.Errorf("%s: %s in the history: %v, -got +want:\n%s", name, line.Name, err, d)
			}
			got = *line.Task
			if err := DecodeRun(&got, nil); err != nil { // takes off what is in a run
				t.Fatal(err)
			}
			err = DecodeRun(&got, line.Run)
			if d := cmp.Diff(got, *line.Task, protocmp.Transform()); d != "" || err != nil {
				t.Errorf("%s: %s in a run: %v, -got +want:\n%s", name, line.Name, err, d)
			}
		}
		if tasks < 30 {
			t.Errorf("%s has %d tasks", name, tasks)
		}
	}
}
