package main

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/dash-fleet/dash/cmd/internal/app"
	"github.com/dash-fleet/dash/http/events"
	"github.com/dash-fleet/dash/http/server"
	"github.com/dash-fleet/dash/messages"
)

// result is what soak/bench reads; zero means not measured in this mode.
type result struct {
	Tasks          int     `json:"tasks"`
	EnqueueSeconds float64 `json:"enqueue_seconds"`         // until the last submit was answered
	Seconds        float64 `json:"seconds"`                 // until the last task's end was durable
	P50            float64 `json:"p50_ms,omitempty"`        // from the call of submit to the start
	P99            float64 `json:"p99_ms,omitempty"`        //
	LoadSeconds    float64 `json:"load_seconds,omitempty"`  // from the start of a node to the full queue
	FirstSeconds   float64 `json:"first_seconds,omitempty"` // from there to the first task's start
	CPUSeconds     float64 `json:"cpu_seconds"`             // of this process, user and system
}

// bench is one case under way.
type bench struct {
	options
	app      *app.App
	commands server.Commands
	frames   chan time.Time // the first frame after it was emptied

	mu   sync.Mutex
	took []time.Duration // mode latency
}

func (b *bench) measure(ctx context.Context) (result, error) {
	cpu := cpuSeconds()
	var r result
	var err error
	switch b.mode {
	case "throughput":
		r, err = b.throughput(ctx)
	case "latency":
		r, err = b.latency(ctx)
	case "load":
		r, err = b.load(ctx)
	default:
		err = fmt.Errorf("there is no mode %q", b.mode)
	}
	r.CPUSeconds = cpuSeconds() - cpu
	return r, err
}

// throughput: producers submit one task after the other; it ends with the
// durable end of the last.
func (b *bench) throughput(ctx context.Context) (result, error) {
	total, ended := b.ends()
	began := time.Now()
	n, err := b.produce(ctx, messages.High)
	total <- n
	enqueued := time.Since(began)
	if err := errors.Join(err, <-ended); err != nil {
		return result{}, err
	}
	return result{Tasks: n, EnqueueSeconds: enqueued.Seconds(), Seconds: time.Since(began).Seconds()}, nil
}

// produce submits from all producers: for a time, or a number of tasks. A full
// queue is waited out. It returns how many tasks were accepted.
func (b *bench) produce(ctx context.Context, class messages.Class) (int, error) {
	more := b.more()
	counts, errs := make([]int, b.producers), make([]error, b.producers)
	var wg sync.WaitGroup
	for i := range b.producers {
		wg.Go(func() {
			for more() {
				if errs[i] = b.submit(ctx, class, "hello"); errs[i] != nil {
					return
				}
				counts[i]++
			}
		})
	}
	wg.Wait()
	n := 0
	for _, c := range counts {
		n += c
	}
	return n, errors.Join(errs...)
}

// more tells a producer whether to go on.
func (b *bench) more() func() bool {
	if b.duration > 0 {
		until := time.Now().Add(b.duration)
		return func() bool { return time.Now().Before(until) }
	}
	var left atomic.Int64
	left.Store(int64(b.tasks))
	return func() bool { return left.Add(-1) >= 0 }
}

func (b *bench) submit(ctx context.Context, class messages.Class, text string) error {
	for {
		_, err := b.commands.Tasks.Submit(ctx, server.SubmitRequest{Tenant: "default", Class: class,
			Spec: &messages.TaskSpec{Message: text, TimeoutSeconds: 600, MaxAttempts: 3, OnUnknown: string(messages.Requeue)}})
		if messages.CodeOf(err) != messages.CodeQueueFull {
			return err
		}
		time.Sleep(time.Millisecond)
	}
}

// ends counts tasks that succeeded; once it was told how many there are in all
// it delivers when they are reached.
func (b *bench) ends() (total chan<- int, done <-chan error) {
	sub := b.commands.Events.Subscribe(1 << 20)
	want, result := make(chan int, 1), make(chan error, 1)
	go func() { result <- count(sub, want) }()
	return want, result
}

func count(sub events.Subscription, want <-chan int) error {
	defer sub.Close()
	for n, total := 0, -1; n != total; {
		select {
		case total = <-want:
		case e, ok := <-sub.C():
			if !ok {
				return errors.New("the watch of events was cut")
			}
			if e.GetTask().GetState() == "succeeded" {
				n++
			}
		}
	}
	return nil
}

// latency submits at a steady rate, whatever the answers do.
func (b *bench) latency(ctx context.Context) (result, error) {
	total, ended := b.ends()
	total <- b.tasks
	tick := time.NewTicker(time.Second / time.Duration(b.rate))
	defer tick.Stop()
	began := time.Now()
	errs := make([]error, b.tasks)
	var wg sync.WaitGroup
	for i := range b.tasks {
		<-tick.C
		wg.Go(func() { errs[i] = b.submit(ctx, messages.High, strconv.FormatInt(time.Now().UnixNano(), 10)) })
	}
	wg.Wait()
	enqueued := time.Since(began)
	if err := errors.Join(errs...); err != nil {
		return result{}, err
	}
	if err := <-ended; err != nil {
		return result{}, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	slices.Sort(b.took)
	if len(b.took) == 0 {
		return result{}, errors.New("no task was started")
	}
	return result{Tasks: b.tasks, EnqueueSeconds: enqueued.Seconds(), Seconds: time.Since(began).Seconds(),
		P50: ms(b.took[len(b.took)/2]), P99: ms(b.took[min(len(b.took)-1, len(b.took)*99/100)])}, nil
}

// load fills the queue, starts a node on it anew and then lets the first task run.
func (b *bench) load(ctx context.Context) (result, error) {
	began := time.Now()
	if _, err := b.produce(ctx, messages.Low); err != nil {
		return result{}, err
	}
	r := result{Tasks: b.tasks, EnqueueSeconds: time.Since(began).Seconds()}
	if err := b.stop(); err != nil {
		return r, err
	}
	runtime.GC()
	began = time.Now()
	if err := b.start(ctx, 0); err != nil {
		return r, err
	}
	for {
		queue, err := b.commands.Tasks.Queue(ctx, "", messages.DefaultPool, "")
		if err != nil {
			return r, err
		}
		depth := 0
		for _, q := range queue {
			depth += q.Depth
		}
		if depth == b.tasks {
			break
		}
		if time.Since(began) > time.Minute {
			return r, fmt.Errorf("the queue holds %d of %d tasks after a minute", depth, b.tasks)
		}
		time.Sleep(time.Millisecond)
	}
	r.LoadSeconds = time.Since(began).Seconds()
	if err := b.addGateways(ctx, 1); err != nil {
		return r, err
	}
	first := <-b.frames
	r.FirstSeconds = first.Sub(began).Seconds()
	r.Seconds = r.EnqueueSeconds
	return r, nil
}

func ms(d time.Duration) float64 { return d.Seconds() * 1e3 }

// cpuSeconds is the processor time that this process has used.
func cpuSeconds() float64 {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano()).Seconds()
}
