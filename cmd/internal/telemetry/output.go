package telemetry

import (
	"bytes"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// maxWaiting bounds what waits for a reader, in bytes.
const maxWaiting = 1 << 20

// Output is a writer that nobody ever waits for. What is written waits in
// memory, at most 1 MiB of it, until one goroutine has handed it on; what does
// not fit is dropped whole and counted. So a pipe whose reader hangs costs
// lines of the log, and neither work nor the stop of the process.
//
// The goroutine runs from NewOutput to Close, or for as long as one write to a
// reader that hangs lasts.
type Output struct {
	w       io.Writer
	wake    chan struct{} // one token: something waits, or Close was called
	done    chan struct{} // closed when the goroutine has ended
	dropped atomic.Uint64 // lines, since the start
	// told writes a line that says how many were dropped; nil: nobody says so.
	told func(w io.Writer, lines uint64)

	mu      sync.Mutex
	waiting []byte
	spare   []byte // the other of two buffers, while it is not being written
	missing uint64 // lines dropped since the reader was last told
	closed  bool
}

// NewOutput returns an Output in front of w. The caller closes it.
func NewOutput(w io.Writer) *Output {
	o := &Output{w: w, wake: make(chan struct{}, 1), done: make(chan struct{})}
	go o.run()
	return o
}

// Write never waits and never fails. p is taken whole or dropped whole.
func (o *Output) Write(p []byte) (int, error) {
	o.mu.Lock()
	if o.closed || len(o.waiting)+len(p) > maxWaiting {
		o.missing += lines(p)
		o.mu.Unlock()
		o.dropped.Add(lines(p))
		return len(p), nil
	}
	o.waiting = append(o.waiting, p...)
	o.mu.Unlock()
	o.signal()
	return len(p), nil
}

func (o *Output) signal() {
	select {
	case o.wake <- struct{}{}:
	default:
	}
}

func (o *Output) run() {
	defer close(o.done)
	for range o.wake {
		for {
			batch, missing, last := o.take()
			if len(batch) == 0 && missing == 0 {
				if last {
					return
				}
				break
			}
			o.hand(batch, missing)
		}
	}
}

// take returns what waits and how many lines are missing behind it; last says
// that nothing will come any more.
func (o *Output) take() (batch []byte, missing uint64, last bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	batch, missing = o.waiting, o.missing
	o.waiting, o.spare, o.missing = o.spare[:0], nil, 0
	return batch, missing, o.closed
}

// hand writes a batch, and behind it how many lines are missing. A reader that
// is gone loses the batch; there is nobody to tell.
func (o *Output) hand(batch []byte, missing uint64) {
	n, err := o.w.Write(batch)
	if err != nil {
		o.dropped.Add(lines(batch[min(n, len(batch)):]))
	} else if missing > 0 && o.told != nil {
		o.told(o.w, missing)
	}
	o.mu.Lock()
	o.spare = batch[:0]
	o.mu.Unlock()
}

// lines is how many lines p has; what does not end is one, too.
func lines(p []byte) uint64 { return uint64(max(bytes.Count(p, []byte{'\n'}), min(1, len(p)))) }

// Dropped is how many lines were lost so far.
func (o *Output) Dropped() uint64 { return o.dropped.Load() }

// Collector counts them.
func (o *Output) Collector() prometheus.Collector {
	return prometheus.NewCounterFunc(prometheus.CounterOpts{
		Name: "dash_log_dropped_total", Help: "Lines of the log that were dropped because their reader did not take them in time.",
	}, func() float64 { return float64(o.Dropped()) })
}

// Close waits until everything was handed on, but no longer than the time. It
// may be called again. What is written afterwards is dropped.
func (o *Output) Close(atMost time.Duration) {
	o.mu.Lock()
	o.closed = true
	o.mu.Unlock()
	o.signal()
	t := time.NewTimer(atMost)
	defer t.Stop()
	select {
	case <-o.done:
	case <-t.C:
	}
}
