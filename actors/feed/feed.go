// Package feed hands committed events and the running text of turns to
// watchers. It never waits for one: a watcher of events that falls behind is
// cut, a watcher of a run sees the newest text and misses older ones.
//
// Guarantees: a Subscription delivers events in commit order without holes
// from the moment of Subscribe until it is closed, whichever node wrote them. What
// this node wrote is handed on at once if nothing is missing before it; Follow
// reads the rest from the log. A Feed owns no goroutine.
package feed

import (
	"strings"
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/dash-fleet/dash/messages"
)

// MaxRunText bounds the text kept per run, in bytes; longer texts are cut at
// the end (the final answer is in the task).
const MaxRunText = 256 << 10

// Feed is safe for concurrent use.
type Feed struct {
	mu   sync.Mutex
	subs map[*Subscription]struct{}
	runs map[string]*run
	ends map[string]map[chan struct{}]struct{} // who waits for a task's end

	last    int64         // the Seq of the newest event that the watchers were handed
	known   int64         // the log holds events up to here, as far as is known
	hole    chan struct{} // something is missing before what was to be published
	news    chan struct{} // known has grown
	cut     prometheus.Counter
	watched prometheus.Gauge
}

// run is the text of a running task and who watches it.
type run struct {
	claim    int64
	text     string
	code     messages.WaitingCode // of trouble
	trouble  string               // what keeps it, in words; empty since the last text
	watchers map[*RunWatch]struct{}
}

// New returns a feed; last is the newest event that the store holds.
func New(last int64, r prometheus.Registerer) *Feed {
	f := &Feed{
		subs: map[*Subscription]struct{}{}, runs: map[string]*run{}, last: last,
		ends: map[string]map[chan struct{}]struct{}{},
		hole: make(chan struct{}, 1), news: make(chan struct{}, 1),
		cut: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "dash_feed_cut_total", Help: "Event watchers cut because they were too slow.",
		}),
		watched: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "dash_feed_watchers", Help: "Event watchers connected now.",
		}),
	}
	if r != nil {
		r.MustRegister(f.cut, f.watched)
	}
	return f
}

// Subscription is one watcher of events.
type Subscription struct {
	feed *Feed
	ch   chan *messages.Event
	slow bool
	from int64
}

// Subscribe starts watching; buffer is how many events may wait for the
// watcher before it is cut. From() tells after which event it begins.
func (f *Feed) Subscribe(buffer int) *Subscription {
	f.mu.Lock()
	defer f.mu.Unlock()
	s := &Subscription{feed: f, ch: make(chan *messages.Event, buffer), from: f.last}
	f.subs[s] = struct{}{}
	f.watched.Set(float64(len(f.subs)))
	return s
}

// C delivers the events. It is closed when the watcher was cut or has closed.
func (s *Subscription) C() <-chan *messages.Event { return s.ch }

// From is the Seq of the last event before the subscription's first.
func (s *Subscription) From() int64 { return s.from }

// Slow reports whether the watcher was cut for falling behind.
func (s *Subscription) Slow() bool {
	s.feed.mu.Lock()
	defer s.feed.mu.Unlock()
	return s.slow
}

// Close ends the subscription; closing twice is harmless.
func (s *Subscription) Close() {
	s.feed.mu.Lock()
	defer s.feed.mu.Unlock()
	s.feed.drop(s)
}

func (f *Feed) drop(s *Subscription) {
	if _, ok := f.subs[s]; ok {
		delete(f.subs, s)
		close(s.ch)
		f.watched.Set(float64(len(f.subs)))
	}
}

// Publish hands the events of a batch, which are in the log, to every watcher. If
// others are missing before them, Follow does so. It never blocks.
func (f *Feed) Publish(events []*messages.Event) {
	if len(events) == 0 {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if events[0].Seq > f.last+1 {
		f.known = max(f.known, events[len(events)-1].Seq)
		poke(f.hole)
		return
	}
	f.deliver(events)
}

// deliver hands on what is newer than the last event. f.mu is held.
func (f *Feed) deliver(events []*messages.Event) {
	for _, e := range events {
		if e.Seq <= f.last {
			continue // it was read from the log already
		}
		f.last = e.Seq
		if t := e.GetTask(); t != nil {
			f.taskChanged(e.Subject, t)
		}
		for s := range f.subs {
			select {
			case s.ch <- e:
			default:
				s.slow = true
				f.cut.Inc()
				f.drop(s)
			}
		}
	}
}

// taskChanged drops the text of a run that is over or was claimed anew.
func (f *Feed) taskChanged(task string, t *messages.TaskChanged) {
	if s, err := messages.ParseTaskState(t.State); err == nil && s.Terminal() {
		for ch := range f.ends[task] {
			close(ch)
		}
		delete(f.ends, task)
	}
	r := f.runs[task]
	if r == nil {
		return
	}
	switch t.State {
	case "claimed", "queued", "retry_wait":
		r.text, r.trouble = "", ""
	case "succeeded", "dead_letter", "cancelled", "expired":
		r.text, r.trouble = "", ""
		f.forget(task, r)
	}
}

// Text records the text so far of a task's run under a claim. An older claim's
// text is dropped. An empty text says that no more comes under the claim: what
// came after the task's end is forgotten with it. It never blocks.
func (f *Feed) Text(task string, claim int64, text string) {
	if len(text) > MaxRunText {
		text = strings.Clone(text[:MaxRunText]) // a part would keep the whole
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	r := f.runs[task]
	if r == nil {
		r = &run{}
		f.runs[task] = r
	}
	if claim < r.claim {
		return
	}
	r.claim, r.text, r.trouble = claim, text, ""
	if text == "" {
		f.forget(task, r)
		return
	}
	for w := range r.watchers {
		w.wake()
	}
}

// Trouble records, as a code and in words, what keeps a task's run under a claim,
// until the next Text. An older claim's is dropped. It never blocks.
func (f *Feed) Trouble(task string, claim int64, code messages.WaitingCode, words string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	r := f.runs[task]
	if r == nil {
		r = &run{}
		f.runs[task] = r
	}
	if claim >= r.claim {
		r.claim, r.code, r.trouble = claim, code, words
	}
}

// TroubleOf is what keeps a task's run under a claim, empty if nothing is known.
func (f *Feed) TroubleOf(task string, claim int64) (code messages.WaitingCode, words string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if r := f.runs[task]; r != nil && r.claim == claim && r.trouble != "" {
		return r.code, r.trouble
	}
	return "", ""
}

func (f *Feed) forget(task string, r *run) {
	if len(r.watchers) == 0 {
		delete(f.runs, task)
	}
}

// RunWatch watches the text of one task.
type RunWatch struct {
	feed *Feed
	task string
	ch   chan struct{}
}

// WatchRun starts watching a task's text; the first Text() is the snapshot.
func (f *Feed) WatchRun(task string) *RunWatch {
	f.mu.Lock()
	defer f.mu.Unlock()
	w := &RunWatch{feed: f, task: task, ch: make(chan struct{}, 1)}
	r := f.runs[task]
	if r == nil {
		r = &run{}
		f.runs[task] = r
	}
	if r.watchers == nil {
		r.watchers = map[*RunWatch]struct{}{}
	}
	r.watchers[w] = struct{}{}
	return w
}

// C has an element when the text changed since the last one was taken.
func (w *RunWatch) C() <-chan struct{} { return w.ch }

// Text is the text so far and the claim it belongs to.
func (w *RunWatch) Text() (text string, claim int64) {
	w.feed.mu.Lock()
	defer w.feed.mu.Unlock()
	if r := w.feed.runs[w.task]; r != nil {
		return r.text, r.claim
	}
	return "", 0
}

// Close ends the watch; closing twice is harmless.
func (w *RunWatch) Close() {
	w.feed.mu.Lock()
	defer w.feed.mu.Unlock()
	r := w.feed.runs[w.task]
	if r == nil {
		return
	}
	delete(r.watchers, w)
	if r.text == "" && r.trouble == "" {
		w.feed.forget(w.task, r)
	}
}

func (w *RunWatch) wake() {
	select {
	case w.ch <- struct{}{}:
	default:
	}
}

// AwaitEnd returns a channel that is closed when the task reaches a terminal
// state after this call, and a function that must be called to stop waiting.
func (f *Feed) AwaitEnd(task string) (<-chan struct{}, func()) {
	ch := make(chan struct{})
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.ends[task] == nil {
		f.ends[task] = map[chan struct{}]struct{}{}
	}
	f.ends[task][ch] = struct{}{}
	return ch, func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		delete(f.ends[task], ch)
		if len(f.ends[task]) == 0 {
			delete(f.ends, task)
		}
	}
}
