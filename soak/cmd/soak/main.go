// Command soak drives Dash and simulated gateways from outside, judges what
// became of every task and draws a report.
//
//	soak --dash bin/dash --profile 50 --duration 2m --out soak/out
//	soak chaos --dash bin/dash --rounds 50 --out chaos/out
//	soak attack --dash bin/dash --only keys,slow,sockets
//	soak hostile --dash bin/dash --duration 10m
//
// Exit codes: 0 all gates passed, 1 a gate failed, 2 usage, 130 interrupted.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/dash-fleet/dash/soak/chaos"
	"github.com/dash-fleet/dash/soak/harness"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	args := os.Args[1:]
	run := soakMain
	if len(args) > 0 {
		switch args[0] {
		case "chaos":
			run, args = chaosMain, args[1:]
		case "hostile":
			run, args = hostileMain, args[1:]
		case "attack":
			run, args = attackMain, args[1:]
		}
	}
	err := run(ctx, args)
	switch {
	case err == nil:
	case errors.Is(err, flag.ErrHelp):
	case errors.As(err, new(usageError)):
		fmt.Fprintln(os.Stderr, "soak:", err)
		os.Exit(2)
	case ctx.Err() != nil:
		fmt.Fprintln(os.Stderr, "soak: interrupted:", err)
		os.Exit(130)
	default:
		fmt.Fprintln(os.Stderr, "soak:", err)
		os.Exit(1)
	}
}

type usageError struct{ error }

func soakMain(ctx context.Context, args []string) error {
	fs := flag.NewFlagSet("soak", flag.ContinueOnError)
	var o options
	profile := fs.String("profile", "50", "how much: "+strings.Join(profileNames(), ", "))
	faults := fs.String("faults", "", "faults to inject, separated by commas: "+strings.Join(faultNames(), ", "))
	fs.StringVar(&o.binary, "dash", "bin/dash", "the dash binary")
	fs.StringVar(&o.engine, "store", harness.SQLite, "engine that stores Dash's data: "+strings.Join(harness.Engines(), ", ")+"; private servers are started for it")
	fs.DurationVar(&o.duration, "duration", 2*time.Minute, "how long the load lasts")
	fs.StringVar(&o.out, "out", "soak/out", "folder for reports; each run gets one of its own in it")
	fs.Float64Var(&o.rate, "rate", 0, "submits per second; 0: the profile's")
	fs.Uint64Var(&o.seed, "seed", uint64(time.Now().UnixNano()), "for everything random")
	fs.BoolVar(&o.keep, "keep", false, "keep logs, data and history of a run that passed")
	if err := fs.Parse(args); err != nil {
		return asUsage(err)
	}
	var err error
	if o.profile, err = profileOf(*profile); err != nil {
		return usageError{err}
	}
	if o.faults, err = faultsOf(*faults); err != nil {
		return usageError{err}
	}
	if o.duration < 5*time.Second || fs.NArg() > 0 {
		return usageError{errors.New("give a --duration of at least 5s and nothing beside flags")}
	}
	if o.binary, err = filepath.Abs(o.binary); err != nil {
		return err
	}
	return o.run(ctx)
}

func asUsage(err error) error {
	if errors.Is(err, flag.ErrHelp) {
		return err
	}
	return usageError{err}
}

func chaosMain(ctx context.Context, args []string) error {
	fs := flag.NewFlagSet("soak chaos", flag.ContinueOnError)
	var cfg chaos.RunConfig
	fs.StringVar(&cfg.Binary, "dash", "bin/dash", "the dash binary")
	fs.IntVar(&cfg.Rounds, "rounds", 50, "how often each repeated fault is injected")
	fs.StringVar(&cfg.Engine, "store", "", "run scenarios on this engine: "+strings.Join(harness.Engines(), ", ")+"; empty: on all")
	fs.StringVar(&cfg.Only, "only", "", "run scenarios whose name contains this")
	fs.StringVar(&cfg.Out, "out", "chaos/out", "folder for the report, which is also what an interrupted run resumes from")
	if err := fs.Parse(args); err != nil {
		return asUsage(err)
	}
	if cfg.Rounds < 1 || fs.NArg() > 0 {
		return usageError{errors.New("give --rounds from 1 on and nothing beside flags")}
	}
	var err error
	if cfg.Binary, err = filepath.Abs(cfg.Binary); err != nil {
		return err
	}
	cfg.Logf = func(format string, args ...any) { fmt.Fprintf(os.Stderr, format+"\n", args...) }
	return chaos.Run(ctx, cfg)
}
