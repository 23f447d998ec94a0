package backuptest

import (
	"fmt"
	"maps"
	"sync"
	"testing"

	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/persistence"
)

// underLoad: whatever was answered before a backup began is in it, while others
// go on writing.
func underLoad(t *testing.T, e Engine) {
	const rounds, writers = 2, 3
	from := e.New(t)
	l := &load{from: from, answered: map[string]bool{}}
	for round := range rounds {
		l.some = make(chan struct{})
		var wg sync.WaitGroup
		for w := range writers {
			wg.Go(func() { l.write(t, fmt.Sprintf("%d-%d", round, w)) })
		}
		<-l.some // some were answered, and the writers go on
		before := l.list()
		a, m := archive(t, from)
		wg.Wait()
		blank := e.Blank(t)
		restore(t, blank, a)
		to := blank.Open(t)
		for id := range before {
			if _, err := to.Store().Task(t.Context(), "", id); err != nil {
				t.Fatalf("round %d: task %s was answered before the backup and is gone: %v", round, id, err)
			}
		}
		last, err := to.Store().LastSeq(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if last < m.Source.Mark.Seq || int(m.Source.Mark.Seq) < len(before) {
			t.Errorf("round %d: mark %d, last event %d, %d tasks answered before", round, m.Source.Mark.Seq, last, len(before))
		}
	}
}

type load struct {
	from Store
	some chan struct{} // closed after some answers of the round

	mu       sync.Mutex
	answered map[string]bool
}

// batches is how many commits of 10 tasks a writer makes; after the first ones
// the backup begins.
const (
	batches = 40
	enough  = 8
)

func (l *load) write(t *testing.T, name string) {
	for i := range batches {
		var batch []persistence.Op
		for j := range 10 {
			task := newTask(fmt.Sprintf("load-%s-%d-%d", name, i, j))
			batch = append(batch, persistence.Op{Insert: &persistence.TaskInsert{Task: task}, Events: []*messages.Event{event(task.ID, "queued")}})
		}
		_, err := l.from.Store().Commit(t.Context(), batch)
		l.mu.Lock()
		if err != nil {
			t.Errorf("commit: %v", err)
		} else {
			for _, op := range batch {
				l.answered[op.Insert.Task.ID] = true
			}
		}
		if i == enough || err != nil {
			select {
			case <-l.some:
			default:
				close(l.some)
			}
		}
		l.mu.Unlock()
		if err != nil {
			return
		}
	}
}

func (l *load) list() map[string]bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return maps.Clone(l.answered)
}
