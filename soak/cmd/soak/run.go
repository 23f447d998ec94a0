package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"github.com/dash-fleet/dash/soak/harness"
	"github.com/dash-fleet/dash/soak/judge"
	"github.com/dash-fleet/dash/soak/report"
)

type options struct {
	profile  profile
	faults   []string
	binary   string
	engine   string
	out      string
	duration time.Duration
	rate     float64
	seed     uint64
	keep     bool
}

// outcome is everything that was seen of a run.
type outcome struct {
	began   time.Time
	loaded  time.Duration // how long the load lasted
	history *judge.History
	verdict *judge.Verdict
	samples []harness.Sample
	latency *hdrhistogram.Histogram
	begun   *hdrhistogram.Histogram // how late submits began
	answers map[int]int
	faults  []report.Fault
	late    error // what had not ended
}

// drainPatience bounds how long tasks may take to end after the load.
func (o *options) drainPatience() time.Duration {
	return max(90*time.Second, o.duration) + 3*o.profile.runTime
}

func (o *options) run(ctx context.Context) error {
	dir := filepath.Join(o.out, time.Now().Format("20060102-150405"))
	work := filepath.Join(dir, "work")
	if err := os.MkdirAll(work, 0o755); err != nil {
		return fmt.Errorf("make folder: %w", err)
	}
	got, err := o.drive(ctx, work)
	if err != nil {
		return fmt.Errorf("%w; logs are in %s", err, work)
	}
	r := o.report(got)
	r.Version = version(ctx, o.binary)
	if err := r.Write(dir); err != nil {
		return err
	}
	say("\n%s", summary(r))
	say("report: %s", filepath.Join(dir, "report.html"))
	if !r.Passed {
		err := harness.SaveHistory(filepath.Join(work, "history.json"), got.history)
		return errors.Join(errors.New("a gate failed; logs and history are in "+work), err)
	}
	if !o.keep {
		return os.RemoveAll(work)
	}
	return nil
}

func say(format string, args ...any) { fmt.Fprintf(os.Stderr, format+"\n", args...) }

// drive runs the whole thing and reads it back.
func (o *options) drive(ctx context.Context, work string) (got *outcome, err error) {
	say("profile %s: %d gateways with %d slots, %s", o.profile.name, o.profile.gateways, o.profile.slots, o.duration)
	b, err := harness.NewBench(ctx, o.benchConfig(work))
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, b.Close()) }()
	got = &outcome{began: time.Now()}
	sampler := b.StartSampler()
	load := b.StartLoad(o.loadConfig())
	got.faults, err = o.inject(ctx, b, got.began)
	if err == nil {
		err = o.wait(ctx, b, load, got.began)
	}
	load.Stop(30 * time.Second)
	got.loaded = time.Since(got.began)
	if err != nil {
		sampler.Stop()
		return nil, err
	}
	say("load ended after %d submits, waiting for the last runs", load.Planned())
	got.late = b.AwaitEnd(ctx, o.drainPatience())
	got.samples, got.answers = sampler.Stop(), b.History.Answers()
	got.latency, got.begun = load.Latency(), load.Late()
	if got.history, got.verdict, err = b.Judge(ctx); err != nil {
		return nil, err
	}
	return got, nil
}

// wait tells every ten seconds how it goes.
func (o *options) wait(ctx context.Context, b *harness.Bench, load *harness.Load, began time.Time) error {
	for {
		left := o.duration - time.Since(began)
		if left <= 0 {
			return nil
		}
		if err := harness.Pause(ctx, min(left, 10*time.Second)); err != nil {
			return err
		}
		open, ended := b.Watcher.Open()
		say("%4.0fs: %d submits begun, %d tasks ended, %d open, submit p99 %s", time.Since(began).Seconds(), load.Planned(), ended, open,
			micros(load.Latency().ValueAtQuantile(99)))
	}
}

func micros(us int64) time.Duration {
	return (time.Duration(us) * time.Microsecond).Round(100 * time.Microsecond)
}

func version(ctx context.Context, binary string) string {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, binary, "version").Output()
	if err != nil {
		return "unknown"
	}
	line, _, _ := strings.Cut(strings.TrimSpace(string(out)), "\n")
	return strings.TrimPrefix(line, "dash ")
}

func machineName() string {
	return fmt.Sprintf("%d CPUs, %s/%s", runtime.NumCPU(), runtime.GOOS, runtime.GOARCH)
}

// summary is the report in a few lines.
func summary(r *report.Report) string {
	var b strings.Builder
	for _, f := range r.Figures {
		fmt.Fprintf(&b, "  %-34s %s\n", f.Name, f.Text)
	}
	for _, g := range r.Gates {
		mark := "passed"
		if !g.Passed {
			mark = "FAILED"
		}
		fmt.Fprintf(&b, "  %s  %s: %s, wanted %s\n", mark, g.Name, g.Got, g.Want)
	}
	fmt.Fprintf(&b, "  bottleneck: %s\n", r.Bottleneck)
	if x := r.Resilience; x != nil {
		fmt.Fprintf(&b, "  resilience: %d of %d faults survived, recovery median %.1f s, longest %.1f s\n", x.Survived, x.Injected, x.Median, x.Longest)
	}
	if err := r.Verdict.Err(); err != nil {
		fmt.Fprintf(&b, "%s\n", err)
	}
	return b.String()
}
