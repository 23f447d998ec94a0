// Command benchnode measures Dash for the comparison in soak/bench: a whole
// node in this process, on the engine that its flags name, with gateways that
// answer at once and cost nothing. Tasks take the product's own path from the
// API's submit command to the durable end; only HTTP and the gateways' sockets
// are left out, as the clients of the other systems are calls in a process too.
//
// It prints "ready" when everything is set up, waits for a line on standard
// input, carries the case out and prints one line of JSON.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"runtime/pprof"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/dash-fleet/dash/cmd/internal/app"
	"github.com/dash-fleet/dash/cmd/internal/config"
	"github.com/dash-fleet/dash/cmd/internal/gcfloor"
	"github.com/dash-fleet/dash/messages"
)

// options are the command line.
type options struct {
	mode            string
	producers       int
	tasks           int
	duration        time.Duration
	rate            int
	gateways, slots int
	profile         string
	cfg             config.Config
}

func main() {
	gcfloor.Set(gcfloor.Floor) // as dash serve does
	if err := run(context.Background(), os.Args[1:], os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "benchnode:", err)
		os.Exit(1)
	}
}

func parse(args []string) (options, error) {
	o := options{cfg: config.Default()}
	var postgresURL, redisURL string
	f := flag.NewFlagSet("benchnode", flag.ContinueOnError)
	f.StringVar(&o.mode, "mode", "throughput", "throughput: submit and complete; latency: from submit to start; load: restart with a full queue")
	f.IntVar(&o.producers, "producers", 64, "callers that submit one task after the other")
	f.IntVar(&o.tasks, "tasks", 10000, "tasks in all")
	f.DurationVar(&o.duration, "duration", 0, "mode throughput: submit for this long instead of a number of tasks")
	f.IntVar(&o.rate, "rate", 100, "tasks per second of mode latency")
	f.IntVar(&o.gateways, "gateways", 8, "gateways")
	f.IntVar(&o.slots, "slots", 64, "runs at once of each gateway")
	f.StringVar(&o.profile, "cpuprofile", "", "file for a CPU profile of what is measured, for go tool pprof")
	f.StringVar(&o.cfg.Store, "store", config.EngineSQLite, "storage engine")
	f.StringVar(&o.cfg.Data, "data", "", "data folder; empty: a temporary one")
	f.StringVar(&postgresURL, "postgres-url", "", "database")
	f.StringVar(&redisURL, "redis-url", "", "Redis server")
	f.DurationVar(&o.cfg.RedisAcceptLoss, "redis-accept-loss", 0, "see dash serve")
	if err := f.Parse(args); err != nil {
		return o, err
	}
	o.cfg.PostgresURL, o.cfg.RedisURL = messages.Secret(postgresURL), messages.Secret(redisURL)
	o.cfg.Listen, o.cfg.Node = "127.0.0.1:0", "bench"
	return o, nil
}

func run(ctx context.Context, args []string, in io.Reader, out io.Writer) error {
	o, err := parse(args)
	if err != nil {
		return err
	}
	if o.cfg.Data == "" {
		dir, err := os.MkdirTemp("", "dash-bench-")
		if err != nil {
			return fmt.Errorf("make a data folder: %w", err)
		}
		defer func() { _ = os.RemoveAll(dir) }() // a folder of temporary files: nobody misses it
		o.cfg.Data = dir
	}
	gateways := o.gateways
	if o.mode == "load" {
		gateways = 0 // nothing may start before the queue is full
	}
	b := &bench{options: o, frames: make(chan time.Time, 1)}
	if err := b.start(ctx, gateways); err != nil {
		return err
	}
	defer func() { _ = b.stop() }() // stopped already after a success
	if _, err := fmt.Fprintln(out, "ready"); err != nil {
		return err
	}
	if _, err := bufio.NewReader(in).ReadString('\n'); err != nil {
		return fmt.Errorf("wait for the word to go: %w", err)
	}
	result, err := b.profiled(ctx)
	if err != nil {
		return err
	}
	if err := b.stop(); err != nil {
		return err
	}
	return json.NewEncoder(out).Encode(result)
}

// profiled measures, with a CPU profile if one was asked for.
func (b *bench) profiled(ctx context.Context) (result, error) {
	if b.profile == "" {
		return b.measure(ctx)
	}
	f, err := os.Create(b.profile)
	if err != nil {
		return result{}, fmt.Errorf("make the profile's file: %w", err)
	}
	if err := pprof.StartCPUProfile(f); err != nil {
		return result{}, errors.Join(fmt.Errorf("profile: %w", err), f.Close())
	}
	r, err := b.measure(ctx)
	pprof.StopCPUProfile()
	return r, errors.Join(err, f.Close())
}

// start brings the node up with that many gateways.
func (b *bench) start(ctx context.Context, gateways int) error {
	a, err := app.Start(ctx, b.cfg, app.Deps{
		Logger:   slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn})),
		Registry: prometheus.NewRegistry(), Version: "bench", BcryptCost: 4, Dial: b.dial,
	})
	if err != nil {
		return err
	}
	b.app, b.commands = a, a.Commands()
	return b.addGateways(ctx, gateways)
}

func (b *bench) addGateways(ctx context.Context, gateways int) error {
	for i := range gateways {
		_, err := b.commands.Gateways.Create(ctx, "", messages.Gateway{ID: fmt.Sprintf("gw-%d", i), Tenant: "default", Pool: messages.DefaultPool,
			URL: fmt.Sprintf("ws://127.0.0.1:%d/", i+1), Token: "t", MaxConcurrency: b.slots, Weight: 1})
		if err != nil && messages.CodeOf(err) != messages.CodeConflict {
			return fmt.Errorf("make a gateway: %w", err)
		}
	}
	return nil
}

func (b *bench) stop() error {
	if b.app == nil {
		return nil
	}
	a := b.app
	b.app = nil
	return a.Stop()
}
