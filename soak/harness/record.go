package harness

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/dash-fleet/dash/http/api"
	"github.com/dash-fleet/dash/soak/judge"
)

// Recorder keeps what clients did. It is safe for concurrent use.
type Recorder struct {
	mu      sync.Mutex
	submits []*judge.Submit
	faults  []*judge.Fault
	answers map[int]int // statuses of submits; 0: no answer
}

func newRecorder() *Recorder { return &Recorder{answers: map[int]int{}} }

// Answers counts the answers to submits by status; 0 stands for none.
func (r *Recorder) Answers() map[int]int {
	r.mu.Lock()
	defer r.mu.Unlock()
	m := make(map[int]int, len(r.answers))
	for k, v := range r.answers {
		m[k] = v
	}
	return m
}

// Accepted counts submits that were answered with 202.
func (r *Recorder) Accepted() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := 0
	for _, s := range r.submits {
		if s.Task != "" {
			n++
		}
	}
	return n
}

// AcceptedTasks are the ids of the tasks that were answered with 202.
func (r *Recorder) AcceptedTasks() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var ids []string
	for _, s := range r.submits {
		if s.Task != "" {
			ids = append(ids, s.Task)
		}
	}
	return ids
}

// Fault notes a disruption that begins now; the returned function ends it.
func (r *Recorder) Fault(kind, gateway string) (end func()) {
	f := &judge.Fault{Kind: kind, Gateway: gateway, From: time.Now(), To: time.Now().Add(24 * time.Hour)}
	r.mu.Lock()
	r.faults = append(r.faults, f)
	r.mu.Unlock()
	return func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		f.To = time.Now()
	}
}

// Order is a task to submit.
type Order struct {
	Key      string
	Class    api.Priority
	Session  string
	Message  string
	Planned  time.Time     // when it should be sent; zero: now
	Timeout  time.Duration // of the run; 0: the server's default
	Attempts int32         // 0: the server's default
	Hold     bool          // on_unknown
	Backoff  *api.Backoff
}

func (o *Order) body() api.SubmitTask {
	labels := api.Labels{judge.KeyLabel: o.Key}
	t := api.SubmitTask{Priority: o.Class, Input: api.SubmitInput{Message: o.Message}, Labels: &labels, Backoff: o.Backoff}
	if o.Session != "" {
		t.Session = &o.Session
	}
	if o.Timeout > 0 {
		s := int64(o.Timeout.Seconds())
		t.Input.TimeoutSeconds = &s
	}
	if o.Attempts > 0 {
		t.MaxAttempts = &o.Attempts
	}
	if o.Hold {
		hold := api.OnUnknown("hold")
		t.OnUnknown = &hold
	}
	return t
}

// Try is one request of a submit.
type Try struct {
	At     time.Time
	Took   time.Duration
	Status int // 0: no answer
}

// tryPatience bounds one request, so that a dead node is noticed.
const tryPatience = 10 * time.Second

// Submit sends a task under its key until it is accepted or refused for good,
// obeying Retry-After, or until ctx ends. Every try is told to seen, which may be nil.
func (b *Bench) Submit(ctx context.Context, o Order, seen func(Try)) (*api.Task, error) {
	s := &judge.Submit{Key: o.Key, Class: o.Class, Session: o.Session, Message: o.Message, Sent: o.Planned}
	if s.Sent.IsZero() {
		s.Sent = time.Now()
	}
	b.History.mu.Lock()
	b.History.submits = append(b.History.submits, s)
	b.History.mu.Unlock()
	for {
		task, status, wait, err := b.try(ctx, &o, seen)
		b.History.mu.Lock()
		b.History.answers[status]++
		switch {
		case task != nil:
			s.Task, s.Refused, s.Answered = task.Id, "", time.Now()
		case final(status):
			s.Refused = api.CodeOf(err)
		}
		b.History.mu.Unlock()
		if task != nil || final(status) {
			return task, err
		}
		select {
		case <-ctx.Done():
			return nil, errors.Join(ctx.Err(), err)
		case <-time.After(wait):
		}
	}
}

// final reports whether a refusal will be the same next time. A full queue and
// an unavailable node are not final, and neither is silence.
func final(status int) bool {
	return status >= 400 && status < 500 && status != http.StatusTooManyRequests && status != http.StatusConflict
}

func (b *Bench) try(ctx context.Context, o *Order, seen func(Try)) (*api.Task, int, time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, tryPatience)
	defer cancel()
	at := time.Now()
	task, err := b.Client.SubmitTask(ctx, o.body(), api.WithIdempotencyKey(o.Key))
	status, wait := http.StatusAccepted, 50*time.Millisecond
	var refusal *api.Error
	switch {
	case errors.As(err, &refusal):
		status, wait = refusal.Status, max(wait, refusal.RetryAfter)
	case err != nil:
		task, status = nil, 0
	}
	if seen != nil {
		seen(Try{At: at, Took: time.Since(at), Status: status})
	}
	return task, status, wait, err
}

// AwaitEnd waits until every task that the log tells of, and every accepted
// one, has ended.
func (b *Bench) AwaitEnd(ctx context.Context, patience time.Duration) error {
	return await(ctx, patience, "all accepted tasks ended", func(context.Context) error {
		if open, _ := b.Watcher.Open(); open > 0 {
			return fmt.Errorf("%d tasks are open, %s", open, b.Watcher.anyOpen())
		}
		b.Watcher.mu.Lock()
		defer b.Watcher.mu.Unlock()
		b.History.mu.Lock()
		defer b.History.mu.Unlock()
		for _, s := range b.History.submits {
			if s.Task != "" && !Terminal(b.Watcher.states[s.Task]) {
				return fmt.Errorf("task %s was accepted and the log tells nothing of it", s.Task)
			}
		}
		return nil
	})
}

// Judge reads everything back and judges it. The system must be at rest: no
// client is submitting any more.
func (b *Bench) Judge(ctx context.Context) (*judge.History, *judge.Verdict, error) {
	h := &judge.History{Slots: b.Slots()}
	if err := b.readRest(ctx, h); err != nil {
		return nil, nil, err
	}
	var err error
	if h.Lines, err = b.Sim.Lines(); err != nil {
		return nil, nil, err
	}
	if err := b.Watcher.fill(h); err != nil {
		return nil, nil, err
	}
	b.History.mu.Lock()
	for _, s := range b.History.submits {
		h.Submits = append(h.Submits, *s)
	}
	for _, f := range b.History.faults {
		h.Faults = append(h.Faults, *f)
	}
	b.History.mu.Unlock()
	return h, judge.Judge(h), nil
}

// readRest reads tasks, gateways, pools and counters. Counters are read again
// while a gateway still reports the end of its last run.
func (b *Bench) readRest(ctx context.Context, h *judge.History) error {
	for cursor := ""; ; {
		page, err := b.Client.ListTasks(ctx, api.TaskQuery{Bodies: true, Page: api.Page{Limit: 1000, Cursor: cursor}})
		if err != nil {
			return fmt.Errorf("read tasks: %w", err)
		}
		h.Tasks = append(h.Tasks, page.Items...)
		if page.NextCursor == nil {
			break
		}
		cursor = *page.NextCursor
	}
	pools, err := b.Client.ListPools(ctx, api.Page{Limit: 1000})
	if err != nil {
		return fmt.Errorf("read pools: %w", err)
	}
	h.Pools = pools.Items
	// The owners' counts follow the rows within their next report.
	settled := await(ctx, 10*time.Second, "counters at rest", func(ctx context.Context) error {
		q, err := b.Client.GetQueue(ctx, "")
		if err != nil {
			return fmt.Errorf("read queue: %w", err)
		}
		g, err := b.Client.ListGateways(ctx, "", nil, api.Page{Limit: 1000})
		if err != nil {
			return fmt.Errorf("read gateways: %w", err)
		}
		h.Queue, h.Gateways = q.Items, g.Items
		for _, g := range g.Items {
			if g.Running > 0 {
				return fmt.Errorf("%s says that it runs %d", g.Id, g.Running)
			}
		}
		return nil
	})
	if settled != nil && len(h.Queue) == 0 {
		return settled
	}
	return nil // what does not settle is the judge's business
}
