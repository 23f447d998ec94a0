package events

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/dash-fleet/dash/http/api"
	"github.com/dash-fleet/dash/messages"
)

// RunState is a task as it is now.
type RunState struct {
	Task     api.Task
	Claim    int64
	Terminal bool
	// Sent is called when it is not needed any more: the task's texts may be long.
	Sent func()
}

func (s *RunState) sent() {
	if s.Sent != nil {
		s.Sent()
	}
	s.Task, s.Sent = api.Task{}, nil
}

const (
	// maxReplay bounds the past of one run to its newest events. A task has a few.
	maxReplay = 5_000
	// indexWait bounds how long a stream waits for the index of the log.
	indexWait = 30 * time.Second
)

// ServeRun streams one task until it is terminal: what is missing since the
// given position, a snapshot, then changes and text as they come. It returns
// an error only while nothing has been written yet.
func (s *Server) ServeRun(ctx context.Context, w http.ResponseWriter, v Viewer, task string, load func(context.Context) (RunState, error), since *int64) error {
	ctx, p := s.permit(ctx, v)
	defer p.close()
	r := &runStream{s: s, task: task, load: load, live: s.router.watch(task), words: s.runs.WatchRun(task)}
	defer r.close()
	// Read before the task: the task then reflects every event up to here.
	last, err := s.start(ctx, nil)
	if err != nil {
		return err
	}
	state, err := s.load(ctx, load)
	if err != nil {
		return err
	}
	defer state.sent()
	begin := last
	if since != nil {
		begin = min(*since, last)
	}
	if r.out, err = newSSE(w, s.cfg.WriteTimeout, p, begin); err != nil {
		return err
	}
	r.last = last
	if since != nil {
		err = r.replay(ctx, *since, last)
	}
	if err == nil {
		err = r.snapshot(ctx, state)
	}
	state.sent()
	if err == nil && !state.Terminal {
		err = r.follow(ctx)
	}
	s.count(ctx, p.reason(ctx, err))
	return nil
}

func (s *Server) load(ctx context.Context, load func(context.Context) (RunState, error)) (RunState, error) {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.ReadTimeout)
	defer cancel()
	return load(ctx)
}

// runStream is one stream of a run. It belongs to one goroutine.
type runStream struct {
	s     *Server
	out   *sse
	task  string
	load  func(context.Context) (RunState, error)
	live  *runFeed
	words RunWatch
	last  int64 // the newest seq that was sent or is reflected in the snapshot

	claim int64  // of the text that was sent
	sent  string // the text that was sent
}

func (r *runStream) close() {
	r.live.close()
	r.words.Close()
}

// replay sends the task's entries with since < seq <= to. A gap says what may be
// missing of them, unless the first one shows that the task began with it.
func (r *runStream) replay(ctx context.Context, since, to int64) error {
	if since >= to {
		return nil
	}
	wait, cancel := context.WithTimeout(ctx, indexWait)
	defer cancel()
	seqs, from, err := r.s.index.find(wait, r.task, since, to)
	if err != nil {
		return fmt.Errorf("wait for the index of the log: %w", err)
	}
	if more := len(seqs) - maxReplay; more > 0 {
		seqs = seqs[more:]
		from = max(from, seqs[0]-1)
	}
	var events []*messages.Event
	for ; len(seqs) > 0; seqs = seqs[run(seqs):] {
		page, oldest, err := r.read(ctx, seqs[0], run(seqs))
		if err != nil {
			return err
		}
		from = max(from, oldest-1) // the log may hold less by now
		for _, e := range page {
			if e.Subject == r.task && e.GetTask() != nil { // not only of the same hash
				events = append(events, e)
			}
		}
	}
	if from = min(from, to); from > since && (len(events) == 0 || events[0].GetTask().From != "") {
		if err := r.out.gap(&gap{from: since + 1, to: from, resume: from}); err != nil {
			return err
		}
	}
	for _, e := range events {
		if err := r.out.event(e); err != nil {
			return err
		}
	}
	return r.out.flush(ctx)
}

// run is how many of the numbers follow each other.
func run(seqs []int64) int {
	n := 1
	for n < len(seqs) && n < pageSize && seqs[n] == seqs[n-1]+1 {
		n++
	}
	return n
}

func (r *runStream) read(ctx context.Context, first int64, n int) (page []*messages.Event, oldest int64, err error) {
	ctx, cancel := context.WithTimeout(ctx, r.s.cfg.ReadTimeout)
	defer cancel()
	if page, oldest, err = r.s.log.Events(ctx, first-1, n); err != nil {
		return nil, 0, fmt.Errorf("read events: %w", err)
	}
	return page, oldest, nil
}

func (r *runStream) snapshot(ctx context.Context, state RunState) error {
	data := api.RunSnapshot{Task: state.Task, RunId: state.Task.RunId}
	if text, claim := r.words.Text(); claim > 0 && claim == state.Claim && !state.Terminal {
		r.claim, r.sent = claim, whole(text)
		data.Text = r.sent
	}
	var l api.Long
	l.Task(&data.Task)
	if err := r.out.send(ctx, typeSnapshot, r.last, data, &l); err != nil {
		return err
	}
	if state.Terminal {
		return r.final(ctx, state)
	}
	return r.out.flush(ctx)
}

func (r *runStream) final(ctx context.Context, state RunState) error {
	var l api.Long
	l.Task(&state.Task)
	if err := r.out.send(ctx, typeFinal, r.last, api.RunFinal{Task: state.Task}, &l); err != nil {
		return err
	}
	return r.out.flush(ctx)
}

func (r *runStream) follow(ctx context.Context) error {
	tick := time.NewTicker(r.s.cfg.Heartbeat)
	defer tick.Stop()
	for {
		var err error
		done := false
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
			r.last = max(r.last, r.live.passed())
			r.out.heartbeat(r.last)
		case <-r.words.C():
			err = r.delta(ctx)
		case e, open := <-r.live.C():
			if open {
				done, err = r.change(ctx, e)
			} else {
				done, err = r.resync(ctx)
			}
		}
		if err == nil {
			err = r.out.flush(ctx)
		}
		if err != nil || done {
			return err
		}
	}
}

// change sends an entry of the log, and the end after a terminal one.
func (r *runStream) change(ctx context.Context, e *messages.Event) (done bool, err error) {
	if e.Seq <= r.last {
		return false, nil
	}
	r.last = e.Seq
	if err := r.out.event(e); err != nil {
		return false, err
	}
	state, err := messages.ParseTaskState(e.GetTask().GetState())
	if err != nil || !state.Terminal() {
		return false, err
	}
	now, err := r.s.load(ctx, r.load)
	if err != nil {
		return false, err
	}
	defer now.sent()
	return true, r.final(ctx, now)
}

// resync goes on after live events were missed: from the log.
func (r *runStream) resync(ctx context.Context) (done bool, err error) {
	if r.live.slow {
		return false, errSlow
	}
	r.live.close()
	r.live = r.s.router.watch(r.task)
	to, err := r.s.start(ctx, nil)
	if err != nil {
		return false, err
	}
	state, err := r.s.load(ctx, r.load)
	if err != nil {
		return false, err
	}
	defer state.sent()
	if err := r.replay(ctx, r.last, to); err != nil {
		return false, err
	}
	r.last = max(r.last, to)
	if !state.Terminal {
		return false, nil
	}
	return true, r.final(ctx, state)
}

// delta sends what was added to the text, or all of it when it was replaced.
func (r *runStream) delta(ctx context.Context) error {
	text, claim := r.words.Text()
	text = whole(text)
	if claim == 0 || claim < r.claim || (claim == r.claim && text == r.sent) || (text == "" && r.sent == "") {
		return nil
	}
	d := api.RunDelta{RunId: messages.RunID(r.task, claim), Offset: len(r.sent), Reset: false}
	if claim == r.claim && strings.HasPrefix(text, r.sent) {
		d.Text = text[len(r.sent):]
	} else {
		d.Text, d.Offset, d.Reset = text, 0, r.sent != "" || r.claim != claim
	}
	if r.claim == 0 {
		d.Reset = false // the first text of the stream replaces nothing
	}
	r.claim, r.sent = claim, text
	return r.out.send(ctx, typeDelta, 0, d, &api.Long{})
}

// whole leaves out a last character that is cut in the middle.
func whole(s string) string {
	for i := 1; i <= utf8.UTFMax && i <= len(s); i++ {
		if c := s[len(s)-i]; utf8.RuneStart(c) {
			if !utf8.FullRuneInString(s[len(s)-i:]) {
				return s[:len(s)-i]
			}
			break
		}
	}
	return s
}

// router sorts the live events of tasks to those who watch one run, so that
// thousands of them do not each read everything.
type router struct {
	mu    sync.Mutex
	feeds map[string]map[*runFeed]struct{}
	seen  int64 // the newest seq that was given to whom it concerns
}

// runFeed is the live events of one task.
type runFeed struct {
	r    *router
	task string
	ch   chan *messages.Event
	slow bool // set before ch is closed
}

// runBuffer is how many changes of one task may wait for its watcher.
const runBuffer = 64

// resubscribeAfter keeps a router that is cut again and again from spinning.
const resubscribeAfter = 50 * time.Millisecond

func newRouter() *router { return &router{feeds: map[string]map[*runFeed]struct{}{}} }

func (r *router) watch(task string) *runFeed {
	r.mu.Lock()
	defer r.mu.Unlock()
	f := &runFeed{r: r, task: task, ch: make(chan *messages.Event, runBuffer)}
	if r.feeds[task] == nil {
		r.feeds[task] = map[*runFeed]struct{}{}
	}
	r.feeds[task][f] = struct{}{}
	return f
}

// passed is a seq up to which the watcher has taken every event of its task, so
// that it may go on from there; 0 while it has not.
func (f *runFeed) passed() int64 {
	f.r.mu.Lock()
	defer f.r.mu.Unlock()
	if _, whole := f.r.feeds[f.task][f]; !whole || len(f.ch) > 0 {
		return 0
	}
	return f.r.seen
}

// C delivers the events; closed when some were missed or the watcher was slow.
func (f *runFeed) C() <-chan *messages.Event { return f.ch }

func (f *runFeed) close() {
	f.r.mu.Lock()
	defer f.r.mu.Unlock()
	f.r.drop(f)
}

// drop forgets a feed and closes it, once. r.mu is held.
func (r *router) drop(f *runFeed) {
	set := r.feeds[f.task]
	if _, ok := set[f]; !ok {
		return
	}
	delete(set, f)
	if len(set) == 0 {
		delete(r.feeds, f.task)
	}
	close(f.ch)
}

// run sorts until ctx ends. When it was cut itself it starts anew and lets
// every watcher look into the log.
func (r *router) run(ctx context.Context, log Log, buffer int) {
	for ctx.Err() == nil {
		sub := log.Subscribe(buffer)
		r.missed()
		for open := true; open; {
			var e *messages.Event
			select {
			case <-ctx.Done():
				open = false
			case e, open = <-sub.C():
				if open {
					r.deliver(e)
				}
			}
		}
		sub.Close()
		select {
		case <-ctx.Done():
		case <-time.After(resubscribeAfter):
		}
	}
}

func (r *router) missed() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, set := range r.feeds {
		for f := range set {
			r.drop(f)
		}
	}
}

func (r *router) deliver(e *messages.Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.seen = max(r.seen, e.Seq)
	if e.GetTask() == nil {
		return
	}
	for f := range r.feeds[e.Subject] {
		select {
		case f.ch <- e:
		default:
			f.slow = true
			r.drop(f)
		}
	}
}
