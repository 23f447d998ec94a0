// Package events carries the event log and the text of runs to watchers, over
// WebSocket and as server-sent events.
//
// Guarantees: a watcher gets every event that matches its topics in order of
// seq, once, without a hole; history that the log no longer holds is told as an
// explicit gap. Nobody waits for a watcher: one that cannot follow is cut and
// told so. Each stream is served by the goroutine of its request (a WebSocket
// has two more, which read and ping and end with it); the Server owns one goroutine,
// from Start to Stop, that sorts live events for the watchers of single runs.
package events

import (
	"context"

	"github.com/dash-fleet/dash/messages"
)

// Log is the event log: its past in the store, its present live.
type Log interface {
	// Events returns up to limit entries with Seq > since, in order, and the
	// oldest Seq that the log still holds (0: the log is empty).
	Events(ctx context.Context, since int64, limit int) (entries []*messages.Event, oldest int64, err error)
	// LastSeq is the Seq of the newest entry, 0 when there is none.
	LastSeq(ctx context.Context) (int64, error)
	// Subscribe starts watching committed events; buffer is how many may wait
	// before the watcher is cut.
	Subscribe(buffer int) Subscription
}

// Subscription is a live watch. An event is in the log before it is delivered.
type Subscription interface {
	// C delivers the events; it is closed when the watch was cut or closed.
	C() <-chan *messages.Event
	// Close ends the watch; closing twice is harmless.
	Close()
}

// Runs is the live text of runs.
type Runs interface {
	// WatchRun starts watching the text of a task's present run.
	WatchRun(task string) RunWatch
}

// RunWatch watches the text of one task. A slow watcher sees the newest text
// and misses older ones.
type RunWatch interface {
	// C has an element when the text changed since the last one was taken.
	C() <-chan struct{}
	// Text is the text so far and the claim it belongs to (0: no text yet).
	Text() (text string, claim int64)
	// Close ends the watch; closing twice is harmless.
	Close()
}
