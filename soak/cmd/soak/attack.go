package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/dash-fleet/dash/soak/attack"
	"github.com/dash-fleet/dash/soak/harness"
)

// attackMain attacks a node of its own and prints what honest clients noticed.
func attackMain(ctx context.Context, args []string) (err error) {
	fs := flag.NewFlagSet("soak attack", flag.ContinueOnError)
	only := fs.String("only", strings.Join(attack.Names(), ","), "attacks, separated by commas")
	binary := fs.String("dash", "bin/dash", "the dash binary")
	t := attack.Target{Logf: func(format string, args ...any) { fmt.Fprintf(os.Stderr, format+"\n", args...) }}
	fs.DurationVar(&t.Time, "duration", time.Minute, "how long each attack lasts, and each quiet time before one")
	fs.IntVar(&t.Rounds, "rounds", 1, "so many quiet times and attacks, whose medians are judged")
	fs.IntVar(&t.Rate, "rate", 100, "honest requests per second")
	steady := fs.Int("steady", 0, "before the attacks measure this many honest requests per second, whose p99 must stay under 20 ms; 0 leaves it out")
	if err := fs.Parse(args); err != nil {
		return asUsage(err)
	}
	if t.Time < time.Second || t.Rate < 1 || t.Rounds < 1 || *steady < 0 || fs.NArg() > 0 {
		return usageError{errors.New("give a --duration of at least 1s, a --rate and --rounds from 1 on and nothing beside flags")}
	}
	path, err := filepath.Abs(*binary)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "dash-attack-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	b, err := harness.NewBench(ctx, harness.Config{Binary: path, Dir: dir})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.Close()) }()
	t.Base = b.Dash.Base()
	if t.Key, err = b.Key(ctx); err != nil {
		return err
	}
	return attackAll(ctx, t, *steady, strings.Split(*only, ","))
}

// maxSteady is the p99 in milliseconds of honest requests that nobody disturbs.
const maxSteady = 20

func attackAll(ctx context.Context, t attack.Target, steady int, names []string) error {
	out := json.NewEncoder(os.Stdout)
	out.SetIndent("", "  ")
	failed := 0
	note := func(r attack.Result, err error) error {
		failed += len(r.Failed)
		return errors.Join(err, out.Encode(r))
	}
	if steady > 0 {
		s := t
		s.Rate = steady
		if err := note(attack.Steady(ctx, s, maxSteady)); err != nil {
			return err
		}
	}
	for _, name := range names {
		if err := note(attack.Run(ctx, t, name)); err != nil {
			return err
		}
	}
	if failed > 0 {
		return fmt.Errorf("%d gates failed", failed)
	}
	return nil
}
