package events

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"sort"
	"sync"
	"time"

	"github.com/dash-fleet/dash/messages"
)

// indexed is how many entries of the log are known by their task: the newest.
const indexed = 1 << 17

// indexRetry is the pause after a log that did not answer.
const indexRetry = time.Second

// index knows where in the log the events of each task are, so that the past of
// one task costs a few reads and not one of the whole log. It begins when it is
// asked for the first time, reads the newest entries once and then goes on with
// the live ones; whoever asks waits for it. It belongs to the goroutine of run,
// but for what mu guards.
type index struct {
	log     Log
	buffer  int
	timeout time.Duration
	size    int
	seed    maphash.Seed
	wanted  chan struct{}
	want    sync.Once

	mu       sync.Mutex
	from, to int64              // it covers from < seq <= to
	at       map[uint64][]int64 // hash of a task's id -> its seqs
	order    []place            // all of at by seq: the oldest make room
	first    int                // of order
	moved    chan struct{}      // closed when to grows
}

type place struct {
	task uint64
	seq  int64
}

func newIndex(log Log, buffer int, timeout time.Duration, size int) *index {
	return &index{
		log: log, buffer: buffer, timeout: timeout, size: size, seed: maphash.MakeSeed(), wanted: make(chan struct{}),
		at: map[uint64][]int64{}, moved: make(chan struct{}),
	}
}

// run keeps the index until ctx ends.
func (x *index) run(ctx context.Context) {
	select {
	case <-x.wanted:
	case <-ctx.Done():
		return
	}
	f := &follower{log: x.log, buffer: x.buffer, timeout: x.timeout}
	defer f.close()
	step := x.begin
	for ctx.Err() == nil {
		err := step(ctx, f)
		if err == nil {
			step = x.step
			continue
		}
		f.seek(f.last) // it was cut, perhaps: the log holds what it missed
		if !errors.Is(err, errSlow) {
			pause(ctx, indexRetry)
		}
	}
}

// begin reads the past. It takes half a core at most.
func (x *index) begin(ctx context.Context, f *follower) error {
	short, cancel := context.WithTimeout(ctx, x.timeout)
	defer cancel()
	end, err := x.log.LastSeq(short)
	if err != nil {
		return fmt.Errorf("read the end of the log: %w", err)
	}
	f.seek(max(0, end-int64(x.size)))
	x.add(nil, &gap{resume: f.last})
	atOnce := make(chan struct{})
	close(atOnce)
	for !f.live {
		began := time.Now()
		events, g, err := f.next(ctx, nil, atOnce)
		if err != nil {
			return err
		}
		x.add(events, g)
		pause(ctx, time.Since(began))
	}
	x.reach(end) // the newest entries may have been swept
	return nil
}

// step adds what comes next.
func (x *index) step(ctx context.Context, f *follower) error {
	events, g, err := f.next(ctx, nil, nil)
	if err == nil {
		x.add(events, g)
	}
	return err
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}

func (x *index) add(events []*messages.Event, g *gap) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if g != nil {
		// What was before is of no use without what is missing.
		x.at, x.order, x.first = map[uint64][]int64{}, nil, 0
		x.from, x.to = g.resume, g.resume
	}
	for _, e := range events {
		x.to = e.Seq
		if e.GetTask() == nil {
			continue
		}
		p := place{maphash.String(x.seed, e.Subject), e.Seq}
		x.at[p.task] = append(x.at[p.task], p.seq)
		x.order = append(x.order, p)
		if len(x.order)-x.first > x.size {
			x.forget()
		}
	}
	x.wake()
}

// reach says that there is nothing more up to end.
func (x *index) reach(end int64) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.to = max(x.to, end)
	x.wake()
}

// wake lets those look again who wait. x.mu is held.
func (x *index) wake() {
	close(x.moved)
	x.moved = make(chan struct{})
}

// forget makes room. x.mu is held.
func (x *index) forget() {
	p := x.order[x.first]
	if rest := x.at[p.task][1:]; len(rest) > 0 {
		x.at[p.task] = rest
	} else {
		delete(x.at, p.task)
	}
	x.from = p.seq
	if x.first++; x.first > x.size {
		x.order, x.first = append([]place(nil), x.order[x.first:]...), 0
	}
}

// find waits until the index has come to the entry to, and returns the places of
// what may be the task's events with since < seq <= to. It knows of none up to from.
func (x *index) find(ctx context.Context, task string, since, to int64) (seqs []int64, from int64, err error) {
	x.want.Do(func() { close(x.wanted) })
	for {
		x.mu.Lock()
		if x.to >= to {
			all := x.at[maphash.String(x.seed, task)]
			low := sort.Search(len(all), func(i int) bool { return all[i] > since })
			high := sort.Search(len(all), func(i int) bool { return all[i] > to })
			seqs, from = append(seqs, all[low:high]...), x.from
			x.mu.Unlock()
			return seqs, from, nil
		}
		moved := x.moved
		x.mu.Unlock()
		select {
		case <-moved:
		case <-ctx.Done():
			return nil, 0, ctx.Err()
		}
	}
}
