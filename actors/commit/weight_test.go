package commit_test

import (
	"strings"
	"testing"

	"github.com/dash-fleet/dash/actors/commit"
	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/persistence"
)

// TestABatchIsBoundedInBytes: what has piled up while the store was away is
// written in parts that a store can take, in order; one large operation goes alone.
func TestABatchIsBoundedInBytes(t *testing.T) {
	t.Parallel()
	f := start(t, nil)
	send := func(text string) {
		f.system.Root.Send(f.pid, commit.Request{Op: persistence.Op{
			Update: &persistence.TaskUpdate{Task: messages.Task{Result: &messages.TaskResult{Text: text}}}}})
	}
	send("first")
	<-f.store.in
	const mebi = 1 << 20
	text := strings.Repeat("x", 4*mebi)
	for range 20 {
		send(text)
	}
	send(strings.Repeat("x", 40*mebi))
	f.store.let <- nil
	var got []int
	for n := 0; n < 21; {
		batch := <-f.store.in
		got = append(got, len(batch))
		n += len(batch)
		f.store.let <- nil
	}
	for _, n := range got {
		if n > 8 {
			t.Errorf("batches of %v operations of 4 MiB, want at most 8", got)
		}
	}
	if last := got[len(got)-1]; last != 1 {
		t.Errorf("batches of %v operations, want the one of 40 MiB alone", got)
	}
}
