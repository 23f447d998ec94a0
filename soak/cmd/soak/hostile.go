package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/dash-fleet/dash/soak/hostile"
)

// hostileMain lets one gateway attack a node for a while.
func hostileMain(ctx context.Context, args []string) error {
	fs := flag.NewFlagSet("soak hostile", flag.ContinueOnError)
	var cfg hostile.Config
	fs.StringVar(&cfg.Binary, "dash", "bin/dash", "the dash binary")
	fs.StringVar(&cfg.Only, "only", "", "modes whose name contains this")
	duration := fs.Duration("duration", 10*time.Minute, "about how long the attacks last, with the honest windows between them")
	if err := fs.Parse(args); err != nil {
		return asUsage(err)
	}
	if *duration < time.Minute || fs.NArg() > 0 {
		return usageError{errors.New("give a --duration of at least 1m and nothing beside flags")}
	}
	var err error
	if cfg.Binary, err = filepath.Abs(cfg.Binary); err != nil {
		return err
	}
	if cfg.Dir, err = os.MkdirTemp("", "dash-hostile-"); err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(cfg.Dir) }()
	cfg.Warm, cfg.Rounds = time.Minute, 1
	cfg.Window = max(*duration/time.Duration(2*len(hostile.Modes())), time.Second)
	cfg.Before = cfg.Window
	cfg.Logf = func(format string, args ...any) { fmt.Fprintf(os.Stderr, format+"\n", args...) }
	r, err := hostile.Run(ctx, cfg)
	if err != nil {
		return err
	}
	fmt.Printf("memory grew by %d MiB at most, to %d MiB; p99 of all tasks at other gateways %s honest, %s hostile (median of the windows %s, %s), over %d tasks\n",
		r.Growth()>>20, r.Peak()>>20, r.Honest, r.Hostile, r.HonestMedian, r.HostileMedian, r.Tasks)
	return r.Err(true)
}
