package harness

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/dash-fleet/dash/http/api"
	"github.com/dash-fleet/dash/soak/judge"
)

// Watcher follows the event log from its first entry and resumes behind the
// last one it saw whenever the stream ends.
type Watcher struct {
	client *api.Client
	cancel context.CancelFunc
	done   chan struct{}

	mu     sync.Mutex
	events eventLog
	states map[string]string // of tasks
	open   int               // tasks that are not terminal
	seq    int64
	gaps   int
	cuts   int
	bad    error
	turn   chan struct{} // closed and replaced at every event
}

func watch(c *api.Client) *Watcher {
	ctx, cancel := context.WithCancel(context.Background())
	w := &Watcher{client: c, cancel: cancel, done: make(chan struct{}), states: map[string]string{}, turn: make(chan struct{})}
	go w.run(ctx)
	return w
}

// Stop ends the watcher; what it saw stays.
func (w *Watcher) Stop() {
	w.cancel()
	<-w.done
}

func (w *Watcher) run(ctx context.Context) {
	defer close(w.done)
	for ctx.Err() == nil {
		w.mu.Lock()
		since := w.seq
		w.mu.Unlock()
		for m, err := range w.client.StreamEvents(ctx, nil, since) {
			if err != nil {
				break
			}
			w.take(&m)
		}
		w.mu.Lock()
		w.cuts++
		w.mu.Unlock()
		select {
		case <-ctx.Done():
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func (w *Watcher) take(m *api.EventMessage) {
	e, ok, err := judge.ParseEvent(m)
	e.Seen = time.Now()
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case err != nil:
		w.bad = err
	case m.Type == "position" && m.Seq != nil:
		w.seq = max(w.seq, *m.Seq)
	case m.Type == "gap":
		w.gaps++
	case ok:
		w.events.add(e)
		w.seq = e.Seq
		if e.Type == "task.state" {
			if was, known := w.states[e.ID]; known && !Terminal(was) {
				w.open--
			}
			if !Terminal(e.State) {
				w.open++
			}
			w.states[e.ID] = e.State
		}
		close(w.turn)
		w.turn = make(chan struct{})
	}
}

// Cuts is how often the stream ended and was resumed.
func (w *Watcher) Cuts() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.cuts
}

// Open counts the tasks that are not terminal as far as the events tell.
func (w *Watcher) Open() (open, ended int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.open, len(w.states) - w.open
}

// anyOpen names one task that is not terminal, found in few looks.
func (w *Watcher) anyOpen() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	for i := w.events.len() - 1; i >= max(0, w.events.len()-1000); i-- {
		if e := w.events.at(i); e.Type == "task.state" && !Terminal(w.states[e.ID]) {
			return "one is " + e.ID + ", " + w.states[e.ID]
		}
	}
	return "none of them moved lately"
}

// Await waits until an event fits, those already seen included.
func (w *Watcher) Await(ctx context.Context, patience time.Duration, what string, fits func(*judge.Event) bool) (judge.Event, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for from := 0; ; {
		w.mu.Lock()
		fresh, turn := w.events.from(from), w.turn
		w.mu.Unlock()
		for i := range fresh {
			if fits(&fresh[i]) {
				return fresh[i], nil
			}
		}
		if from += len(fresh); len(fresh) > 0 {
			continue // there may be another block
		}
		select {
		case <-turn:
		case <-ctx.Done():
			return judge.Event{}, fmt.Errorf("%s within %s: %w (%d events seen)", what, patience, ctx.Err(), from)
		}
	}
}

// AwaitState waits until the task enters a state.
func (w *Watcher) AwaitState(ctx context.Context, patience time.Duration, task string, state api.TaskState) (judge.Event, error) {
	return w.Await(ctx, patience, fmt.Sprintf("task %s %s", task, state), func(e *judge.Event) bool {
		return e.Type == "task.state" && e.ID == task && e.State == string(state)
	})
}

func (w *Watcher) fill(h *judge.History) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	h.Events, h.Gaps = w.events.all(), w.gaps
	return w.bad
}

// Terminal reports whether a task in this state has ended.
func Terminal(s string) bool {
	switch api.TaskState(s) {
	case api.TaskStateSucceeded, api.TaskStateDeadLetter, api.TaskStateCancelled, api.TaskStateExpired:
		return true
	}
	return false
}
