package harness

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"github.com/dash-fleet/dash/http/api"
)

// LoadConfig describes an open-loop load: submits begin at their planned times
// whether or not earlier ones were answered.
type LoadConfig struct {
	Name string  // prefix of keys, unique in a run
	Rate float64 // submits per second
	// Mix weighs the classes in the order critical, high, medium, low; zero means 1:2:4:3.
	Mix [4]int
	// SessionShare of the tasks belong to one of Sessions agent sessions.
	SessionShare float64
	Sessions     int
	// Mark is put in front of every message, for directives to the simulator.
	Mark     func(*rand.Rand) string
	Attempts int32
	Timeout  time.Duration // of a run, 0: the server's default
	// Surge multiplies the rate while SurgeFrom <= time since the start < SurgeTo.
	Surge              float64
	SurgeFrom, SurgeTo time.Duration
	Seed               uint64
}

// maxOutstanding bounds the submits under way. When all are busy the next one
// starts late, and its latency counts from its planned time all the same.
const maxOutstanding = 2000

// Load is a running generator. Stop ends it and waits.
type Load struct {
	cfg     LoadConfig
	bench   *Bench
	rng     *rand.Rand
	planned atomic.Int64
	slots   chan struct{}
	workers sync.WaitGroup
	cancel  context.CancelFunc
	giveUp  context.CancelFunc
	done    chan struct{}

	mu      sync.Mutex
	latency *hdrhistogram.Histogram // µs of first tries, from the planned time
	late    *hdrhistogram.Histogram // µs from the planned time to the first try: the generator's own part of latency
}

// StartLoad begins to submit.
func (b *Bench) StartLoad(cfg LoadConfig) *Load {
	setDefault(&cfg.Mix, [4]int{1, 2, 4, 3})
	ctx, cancel := context.WithCancel(context.Background())
	work, giveUp := context.WithCancel(context.Background())
	l := &Load{
		cfg: cfg, bench: b, rng: rand.New(rand.NewPCG(cfg.Seed, 1)), slots: make(chan struct{}, maxOutstanding),
		cancel: cancel, giveUp: giveUp, done: make(chan struct{}), latency: newHistogram(), late: newHistogram(),
	}
	go l.run(ctx, work)
	return l
}

// newHistogram counts µs up to five minutes with three digits.
func newHistogram() *hdrhistogram.Histogram { return hdrhistogram.New(1, 300_000_000, 3) }

func (l *Load) run(ctx, work context.Context) {
	defer close(l.done)
	begin := time.Now()
	at := begin
	for n := 0; ; n++ {
		at = at.Add(l.gap(at.Sub(begin)))
		if wait := time.Until(at); wait > 0 {
			select {
			case <-ctx.Done():
				return
			case <-time.After(wait):
			}
		}
		select {
		case <-ctx.Done():
			return
		case l.slots <- struct{}{}:
		}
		o := l.order(n)
		o.Planned = at
		l.planned.Add(1)
		l.workers.Go(func() {
			defer func() { <-l.slots }()
			first := true
			// What became of the submit is in the history.
			_, _ = l.bench.Submit(work, o, func(t Try) {
				if first {
					l.note(o.Planned, t)
				}
				first = false
			})
		})
	}
}

// gap is the time until the next submit.
func (l *Load) gap(since time.Duration) time.Duration {
	rate := l.cfg.Rate
	if l.cfg.Surge > 0 && since >= l.cfg.SurgeFrom && since < l.cfg.SurgeTo {
		rate *= l.cfg.Surge
	}
	return time.Duration(float64(time.Second) / rate)
}

func (l *Load) order(n int) Order {
	o := Order{Key: fmt.Sprintf("%s-%d", l.cfg.Name, n), Class: pickClass(l.rng, l.cfg.Mix), Attempts: l.cfg.Attempts, Timeout: l.cfg.Timeout}
	o.Message = "task " + o.Key
	if l.cfg.Mark != nil {
		o.Message = l.cfg.Mark(l.rng) + o.Message
	}
	if l.cfg.Sessions > 0 && l.rng.Float64() < l.cfg.SessionShare {
		o.Session = fmt.Sprintf("%s-s%d", l.cfg.Name, l.rng.IntN(l.cfg.Sessions))
	}
	return o
}

// Classes in the order of service.
var Classes = []api.Priority{"critical", "high", "medium", "low"}

func pickClass(r *rand.Rand, mix [4]int) api.Priority {
	n := r.IntN(mix[0] + mix[1] + mix[2] + mix[3])
	for i, w := range mix {
		if n -= w; n < 0 {
			return Classes[i]
		}
	}
	return Classes[3]
}

// note counts an answered first try from its planned time on. A try without an
// answer is a fault, which the history shows; it has no latency.
func (l *Load) note(planned time.Time, t Try) {
	if t.Status == 0 || t.Status == http.StatusServiceUnavailable {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	// Longer than 5 minutes cannot be: tries are bounded.
	_ = l.latency.RecordValue(max(1, t.At.Add(t.Took).Sub(planned).Microseconds()))
	_ = l.late.RecordValue(max(1, t.At.Sub(planned).Microseconds()))
}

// Planned is how many submits were begun.
func (l *Load) Planned() int64 { return l.planned.Load() }

// Latency is a copy of what was measured, in µs from the planned times.
func (l *Load) Latency() *hdrhistogram.Histogram {
	l.mu.Lock()
	defer l.mu.Unlock()
	return hdrhistogram.Import(l.latency.Export())
}

// Late is a copy of how late the first tries began, in µs: what of Latency is
// this process' own, wanting CPU, and not the answer of Dash.
func (l *Load) Late() *hdrhistogram.Histogram {
	l.mu.Lock()
	defer l.mu.Unlock()
	return hdrhistogram.Import(l.late.Export())
}

// Stop begins no more submits and waits until those under way are decided, at
// most for the time; what is not decided then has an unknown outcome.
func (l *Load) Stop(patience time.Duration) {
	l.cancel()
	<-l.done
	t := time.AfterFunc(patience, l.giveUp)
	defer t.Stop()
	l.workers.Wait()
	l.giveUp()
}
