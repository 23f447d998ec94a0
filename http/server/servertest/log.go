package servertest

import (
	"context"

	"github.com/dash-fleet/dash/http/events"
	"github.com/dash-fleet/dash/messages"
)

// publish numbers an event, keeps it and hands it to the watchers. f.mu is held.
func (f *Fake) publish(e *messages.Event) {
	e.Seq = f.trimmed + int64(len(f.log)) + 1
	f.log = append(f.log, e)
	for s := range f.subs {
		select {
		case s.ch <- e:
		default:
			delete(f.subs, s)
			close(s.ch)
		}
	}
}

// Publish adds an event to the log.
func (f *Fake) Publish(e *messages.Event) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.publish(e)
}

// Trim forgets the log up to a number.
func (f *Fake) Trim(to int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.log = f.log[to-f.trimmed:]
	f.trimmed = to
}

// Cut ends every live subscription, as if all were too slow.
func (f *Fake) Cut() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for s := range f.subs {
		delete(f.subs, s)
		close(s.ch)
	}
}

// Watchers is how many live subscriptions there are.
func (f *Fake) Watchers() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.subs)
}

type eventLog Fake

func (f *eventLog) Events(ctx context.Context, since int64, limit int) ([]*messages.Event, int64, error) {
	if err := (*Fake)(f).enter(ctx, "Events"); err != nil {
		return nil, 0, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.log) == 0 {
		return nil, 0, nil
	}
	from := min(max(0, since-f.trimmed), int64(len(f.log)))
	page := f.log[from:]
	if len(page) > limit {
		page = page[:limit]
	}
	return append([]*messages.Event(nil), page...), f.trimmed + 1, nil
}

func (f *eventLog) LastSeq(ctx context.Context) (int64, error) {
	if err := (*Fake)(f).enter(ctx, "LastSeq"); err != nil {
		return 0, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.trimmed + int64(len(f.log)), nil
}

func (f *eventLog) Subscribe(buffer int) events.Subscription {
	f.mu.Lock()
	defer f.mu.Unlock()
	s := &subscription{f: (*Fake)(f), ch: make(chan *messages.Event, buffer)}
	f.subs[s] = struct{}{}
	return s
}

type subscription struct {
	f  *Fake
	ch chan *messages.Event
}

func (s *subscription) C() <-chan *messages.Event { return s.ch }

func (s *subscription) Close() {
	s.f.mu.Lock()
	defer s.f.mu.Unlock()
	if _, ok := s.f.subs[s]; ok {
		delete(s.f.subs, s)
		close(s.ch)
	}
}

// words is the text of one run and its watchers.
type words struct {
	text     string
	claim    int64
	watchers map[*runWatch]struct{}
}

// Text sets the text so far of a task's run.
func (f *Fake) Text(task string, claim int64, text string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	w := f.wordsOf(task)
	w.text, w.claim = text, claim
	for r := range w.watchers {
		select {
		case r.ch <- struct{}{}:
		default:
		}
	}
}

func (f *Fake) wordsOf(task string) *words {
	w := f.words[task]
	if w == nil {
		w = &words{watchers: map[*runWatch]struct{}{}}
		f.words[task] = w
	}
	return w
}

type runs Fake

func (f *runs) WatchRun(task string) events.RunWatch {
	f.mu.Lock()
	defer f.mu.Unlock()
	r := &runWatch{f: (*Fake)(f), task: task, ch: make(chan struct{}, 1)}
	(*Fake)(f).wordsOf(task).watchers[r] = struct{}{}
	return r
}

type runWatch struct {
	f    *Fake
	task string
	ch   chan struct{}
}

func (r *runWatch) C() <-chan struct{} { return r.ch }

func (r *runWatch) Text() (string, int64) {
	r.f.mu.Lock()
	defer r.f.mu.Unlock()
	w := r.f.wordsOf(r.task)
	return w.text, w.claim
}

func (r *runWatch) Close() {
	r.f.mu.Lock()
	defer r.f.mu.Unlock()
	delete(r.f.wordsOf(r.task).watchers, r)
}
