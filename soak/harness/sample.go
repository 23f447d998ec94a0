package harness

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"math"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/dash-fleet/dash/http/api"
)

// Sample is one look at the system.
type Sample struct {
	At    time.Time
	Depth [4]int // waiting tasks in the order of Classes
	// Running are tasks at gateways.
	Running    int
	RSS        int64 // of dash serve, bytes
	Goroutines float64
	// CPU are seconds used so far: by dash serve, by the simulators, by this
	// process, and by everything on the machine, of Capacity that could have been used.
	CPU, SimCPU, OwnCPU, MachineCPU, Capacity float64
	// Commits are the buckets of dash_store_commit_seconds so far.
	Commits Buckets
	// Read is how long GET /queue took.
	Read time.Duration
	// Fsync is how long the disk under the bench took for 4 KiB, so that a slow
	// commit can be told from a slow disk.
	Fsync time.Duration
	// Life counts starts of dash serve; counters begin anew with each.
	Life int
}

// Buckets is a Prometheus histogram: counts of values up to each bound.
type Buckets struct {
	Bounds []float64
	Counts []float64
	Sum    float64
}

// Quantile estimates a quantile of what was counted since before, as
// Prometheus does; NaN when nothing was.
func (b Buckets) Quantile(q float64, before Buckets) float64 {
	if len(b.Counts) == 0 {
		return math.NaN()
	}
	diff := func(i int) float64 {
		if len(before.Counts) != len(b.Counts) {
			return b.Counts[i]
		}
		return b.Counts[i] - before.Counts[i]
	}
	total := diff(len(b.Counts) - 1)
	if total <= 0 {
		return math.NaN()
	}
	low, below := 0.0, 0.0
	for i, bound := range b.Bounds {
		if n := diff(i); n >= q*total {
			if math.IsInf(bound, 1) {
				return low
			}
			return low + (bound-low)*(q*total-below)/max(n-below, 1)
		}
		low, below = bound, diff(i)
	}
	return low
}

// Sampler looks once a second until Stop.
type Sampler struct {
	bench   *Bench
	http    *http.Client
	samples []Sample
	life    int
	pid     int
	cancel  context.CancelFunc
	done    chan struct{}
}

// StartSampler begins to look at the bench's processes.
func (b *Bench) StartSampler() *Sampler {
	ctx, cancel := context.WithCancel(context.Background())
	s := &Sampler{bench: b, http: &http.Client{Timeout: 2 * time.Second}, cancel: cancel, done: make(chan struct{})}
	go s.run(ctx)
	return s
}

// Stop ends the sampler and returns what it saw. A second without a sample is
// one in which the node did not answer.
func (s *Sampler) Stop() []Sample {
	s.cancel()
	<-s.done
	return s.samples
}

func (s *Sampler) run(ctx context.Context) {
	defer close(s.done)
	t := time.NewTicker(time.Second)
	defer t.Stop()
	for {
		if one, err := s.look(ctx); err == nil { // a node that is being restarted
			s.samples = append(s.samples, one)
		}
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
	}
}

func (s *Sampler) look(ctx context.Context) (Sample, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	one := Sample{At: time.Now()}
	q, err := s.bench.Client.GetQueue(ctx, "")
	if err != nil {
		return one, err
	}
	one.Read = time.Since(one.At)
	for _, item := range q.Items {
		one.Depth[classIndex(item.Class)] += item.Depth
		one.Running += item.Running
	}
	pid := s.bench.Dash.PID()
	if pid != s.pid {
		s.pid = pid
		s.life++
	}
	one.Life = s.life
	if one.RSS, one.CPU, err = usage(pid); err != nil {
		return one, err
	}
	if _, one.SimCPU, err = usage(s.bench.Sim.PID()); err != nil {
		return one, err
	}
	if _, one.OwnCPU, err = usage(os.Getpid()); err != nil {
		return one, err
	}
	if one.MachineCPU, one.Capacity, err = machine(); err != nil {
		return one, err
	}
	if one.Fsync, err = fsync(filepath.Join(s.bench.cfg.Dir, "fsync.probe")); err != nil {
		return one, err
	}
	return one, s.metrics(ctx, &one)
}

// fsync writes 4 KiB and waits until they are durable.
func fsync(path string) (time.Duration, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	begin := time.Now()
	if _, err = f.WriteAt(make([]byte, 4096), 0); err == nil {
		err = f.Sync()
	}
	return time.Since(begin), err
}

func classIndex(c api.Priority) int {
	for i, k := range Classes {
		if k == c {
			return i
		}
	}
	return len(Classes) - 1
}

func (s *Sampler) metrics(ctx context.Context, one *Sample) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.bench.Dash.Base()+"/metrics", nil)
	if err != nil {
		return err
	}
	resp, err := s.http.Do(req)
	if err != nil {
		return fmt.Errorf("read metrics: %w", err)
	}
	defer resp.Body.Close()
	return readMetrics(io.LimitReader(resp.Body, 16<<20), one)
}

// readMetrics takes what is needed out of the text format.
func readMetrics(r io.Reader, one *Sample) error {
	const commits = "dash_store_commit_seconds"
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		name, text, ok := strings.Cut(lines.Text(), " ")
		if !ok || strings.HasPrefix(name, "#") {
			continue
		}
		v, err := strconv.ParseFloat(text, 64)
		if err != nil {
			continue // a sample with a timestamp, none of ours
		}
		switch {
		case name == "go_goroutines":
			one.Goroutines = v
		case strings.HasPrefix(name, commits+"_sum"):
			one.Commits.Sum += v
		case strings.HasPrefix(name, commits+"_bucket"):
			_, bound, _ := strings.Cut(name, `le="`)
			bound, _, _ = strings.Cut(bound, `"`)
			le, err := strconv.ParseFloat(bound, 64)
			if err != nil {
				return fmt.Errorf("bucket %q: %w", name, err)
			}
			one.Commits.Bounds = append(one.Commits.Bounds, le)
			one.Commits.Counts = append(one.Commits.Counts, v)
		}
	}
	return lines.Err()
}

// hertz is the kernel's USER_HZ, 100 on every Linux that Go runs on.
const hertz = 100

// usage reads the memory and the CPU seconds of a process.
func usage(pid int) (rss int64, cpu float64, err error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, 0, err
	}
	_, rest, _ := strings.Cut(string(data), ") ") // the name may hold spaces
	f := strings.Fields(rest)
	if len(f) < 22 {
		return 0, 0, fmt.Errorf("/proc/%d/stat has %d fields", pid, len(f))
	}
	var n [3]int64
	for i, field := range []int{11, 12, 21} { // utime, stime, rss
		if n[i], err = strconv.ParseInt(f[field], 10, 64); err != nil {
			return 0, 0, fmt.Errorf("/proc/%d/stat: %w", pid, err)
		}
	}
	return n[2] * int64(os.Getpagesize()), float64(n[0]+n[1]) / hertz, nil
}

// machine reads the CPU seconds that were used and that could have been.
func machine() (used, capacity float64, err error) {
	data, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0, 0, err
	}
	line, _, _ := strings.Cut(string(data), "\n")
	for i, s := range strings.Fields(line)[1:] {
		v, err := strconv.ParseFloat(s, 64)
		if err != nil {
			return 0, 0, fmt.Errorf("/proc/stat: %w", err)
		}
		if i >= 8 {
			break // guest time is part of user time
		}
		capacity += v / hertz
		if i != 3 && i != 4 { // idle, waiting for the disk
			used += v / hertz
		}
	}
	return used, capacity, nil
}
