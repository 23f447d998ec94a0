package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// result is what a node prints, of Dash as of the others; zero means not
// measured in its mode.
type result struct {
	Tasks          int     `json:"tasks"`
	EnqueueSeconds float64 `json:"enqueue_seconds"`         // until the last enqueue was answered
	Seconds        float64 `json:"seconds"`                 // until the last task's end was durable
	P50            float64 `json:"p50_ms,omitempty"`        // from the call of enqueue to the start
	P99            float64 `json:"p99_ms,omitempty"`        //
	LoadSeconds    float64 `json:"load_seconds,omitempty"`  // from the start of a node to the full queue, Dash only
	FirstSeconds   float64 `json:"first_seconds,omitempty"` // from the start of a node to the first task's start
	CPUSeconds     float64 `json:"cpu_seconds"`             // of the node's process
}

// queue is a system under test inside a node.
type queue interface {
	// enqueue returns when the task is as durable as the store makes it.
	enqueue(ctx context.Context, text string) error
	// work starts workers that call handle for each task.
	work(ctx context.Context, handle func(text string)) error
	// drained returns when n tasks have ended durably.
	drained(ctx context.Context, n int) error
	close(ctx context.Context) error
}

// node is one case of another system under way; cmd/internal/benchnode is its
// counterpart of Dash, with the same flags and modes.
type node struct {
	mode      string
	producers int
	tasks     int
	duration  time.Duration
	rate      int

	queue queue
	mu    sync.Mutex
	took  []time.Duration
	first chan time.Time
}

// runNode is "bench asynq …" and "bench river …".
func runNode(ctx context.Context, system string, args []string, in io.Reader, out io.Writer) (err error) {
	n := node{first: make(chan time.Time, 1)}
	f := flag.NewFlagSet(system, flag.ContinueOnError)
	f.StringVar(&n.mode, "mode", "throughput", "throughput, latency or load")
	f.IntVar(&n.producers, "producers", 64, "callers that enqueue one task after the other")
	f.IntVar(&n.tasks, "tasks", 10000, "tasks in all")
	f.DurationVar(&n.duration, "duration", 0, "mode throughput: enqueue for this long instead of a number of tasks")
	f.IntVar(&n.rate, "rate", 100, "tasks per second of mode latency")
	open := map[string]func(*flag.FlagSet) func(context.Context) (queue, error){"asynq": asynqFlags, "river": riverFlags}[system](f)
	if err := f.Parse(args); err != nil {
		return err
	}
	n.queue, err = open(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, n.queue.close(context.WithoutCancel(ctx))) }()
	if n.mode != "load" {
		if err := n.queue.work(ctx, n.handle); err != nil {
			return err
		}
	}
	if _, err := fmt.Fprintln(out, "ready"); err != nil {
		return err
	}
	if _, err := bufio.NewReader(in).ReadString('\n'); err != nil {
		return fmt.Errorf("wait for the word to go: %w", err)
	}
	cpu := cpuSeconds()
	r, err := n.measure(ctx)
	if err != nil {
		return err
	}
	r.CPUSeconds = cpuSeconds() - cpu
	return json.NewEncoder(out).Encode(r)
}

func (n *node) measure(ctx context.Context) (result, error) {
	switch n.mode {
	case "throughput":
		return n.throughput(ctx)
	case "latency":
		return n.latency(ctx)
	case "load":
		return n.load(ctx)
	}
	return result{}, fmt.Errorf("there is no mode %q", n.mode)
}

// handle is the worker's whole work.
func (n *node) handle(text string) {
	now := time.Now()
	select {
	case n.first <- now:
	default:
	}
	if n.mode != "latency" {
		return
	}
	sent, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.took = append(n.took, time.Duration(now.UnixNano()-sent))
}

func (n *node) throughput(ctx context.Context) (result, error) {
	began := time.Now()
	total, err := n.produce(ctx)
	enqueued := time.Since(began)
	if err != nil {
		return result{}, err
	}
	if err := n.queue.drained(ctx, total); err != nil {
		return result{}, err
	}
	return result{Tasks: total, EnqueueSeconds: enqueued.Seconds(), Seconds: time.Since(began).Seconds()}, nil
}

// produce enqueues from all producers: for a time, or a number of tasks.
func (n *node) produce(ctx context.Context) (int, error) {
	more := n.more()
	counts, errs := make([]int, n.producers), make([]error, n.producers)
	var wg sync.WaitGroup
	for i := range n.producers {
		wg.Go(func() {
			for more() {
				if errs[i] = n.queue.enqueue(ctx, "hello"); errs[i] != nil {
					return
				}
				counts[i]++
			}
		})
	}
	wg.Wait()
	total := 0
	for _, c := range counts {
		total += c
	}
	return total, errors.Join(errs...)
}

func (n *node) more() func() bool {
	if n.duration > 0 {
		until := time.Now().Add(n.duration)
		return func() bool { return time.Now().Before(until) }
	}
	var left atomic.Int64
	left.Store(int64(n.tasks))
	return func() bool { return left.Add(-1) >= 0 }
}

// latency enqueues at a steady rate, whatever the answers do.
func (n *node) latency(ctx context.Context) (result, error) {
	tick := time.NewTicker(time.Second / time.Duration(n.rate))
	defer tick.Stop()
	began := time.Now()
	errs := make([]error, n.tasks)
	var wg sync.WaitGroup
	for i := range n.tasks {
		<-tick.C
		wg.Go(func() { errs[i] = n.queue.enqueue(ctx, strconv.FormatInt(time.Now().UnixNano(), 10)) })
	}
	wg.Wait()
	enqueued := time.Since(began)
	if err := errors.Join(errs...); err != nil {
		return result{}, err
	}
	if err := n.queue.drained(ctx, n.tasks); err != nil {
		return result{}, err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	slices.Sort(n.took)
	if len(n.took) == 0 {
		return result{}, errors.New("no task was started")
	}
	return result{Tasks: n.tasks, EnqueueSeconds: enqueued.Seconds(), Seconds: time.Since(began).Seconds(),
		P50: n.took[len(n.took)/2].Seconds() * 1e3, P99: n.took[min(len(n.took)-1, len(n.took)*99/100)].Seconds() * 1e3}, nil
}

// load fills the queue and then starts the workers: these systems keep their
// queue in the store alone, so there is nothing to load before the first task.
func (n *node) load(ctx context.Context) (result, error) {
	began := time.Now()
	if _, err := n.produce(ctx); err != nil {
		return result{}, err
	}
	r := result{Tasks: n.tasks, EnqueueSeconds: time.Since(began).Seconds()}
	r.Seconds = r.EnqueueSeconds
	began = time.Now()
	if err := n.queue.work(ctx, n.handle); err != nil {
		return r, err
	}
	first := <-n.first
	r.FirstSeconds = first.Sub(began).Seconds()
	return r, nil
}

// cpuSeconds is the processor time that this process has used.
func cpuSeconds() float64 {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano()).Seconds()
}
