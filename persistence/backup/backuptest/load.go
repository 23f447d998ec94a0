package backuptest

import (
	"fmt"
	"sync"
	"testing"

	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/persistence"
)

// underLoad: whatever was answered before a backup began is in it, and it is
// a state that the store was in.
func underLoad(t *testing.T, e Engine) {
	const writers, rounds = 4, 5
	from := e.New(t)
	l := &load{from: from, answered: map[string]bool{}, stop: make(chan struct{}), some: make(chan struct{}, 1)}
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() { l.write(t, w) })
	}
	defer func() { close(l.stop); wg.Wait() }()
	for round := range rounds {
		<-l.some // new answers since the round before
		before := l.list()
		a, m := archive(t, from)
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
	stop chan struct{}
	some chan struct{}

	mu       sync.Mutex
	answered map[string]bool
}

func (l *load) write(t *testing.T, writer int) {
	for i := 0; ; i++ {
		select {
		case <-l.stop:
			return
		default:
		}
		var batch []persistence.Op
		for j := range 10 {
			task := newTask(fmt.Sprintf("load-%d-%d-%d", writer, i, j))
			batch = append(batch, persistence.Op{Insert: &persistence.TaskInsert{Task: task}, Events: []*messages.Event{event(task.ID, "queued")}})
		}
		if _, err := l.from.Store().Commit(t.Context(), batch); err != nil {
			t.Errorf("commit: %v", err)
			return
		}
		l.mu.Lock()
		for _, op := range batch {
			l.answered[op.Insert.Task.ID] = true
		}
		l.mu.Unlock()
		select {
		case l.some <- struct{}{}:
		default:
		}
	}
}

func (l *load) list() map[string]bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := make(map[string]bool, len(l.answered))
	for id := range l.answered {
		out[id] = true
	}
	return out
}
