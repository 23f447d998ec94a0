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
	fs.DurationVar(&t.Time, "duration", time.Minute, "how long each attack lasts, and the quiet time before it")
	fs.IntVar(&t.Rate, "rate", 100, "honest requests per second")
	if err := fs.Parse(args); err != nil {
		return asUsage(err)
	}
	if t.Time < time.Second || t.Rate < 1 || fs.NArg() > 0 {
		return usageError{errors.New("give a --duration of at least 1s, a --rate from 1 on and nothing beside flags")}
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
	out := json.NewEncoder(os.Stdout)
	out.SetIndent("", "  ")
	failed := 0
	for name := range strings.SplitSeq(*only, ",") {
		r, err := attack.Run(ctx, t, name)
		if err != nil {
			return err
		}
		failed += len(r.Failed)
		if err := out.Encode(r); err != nil {
			return err
		}
	}
	if failed > 0 {
		return fmt.Errorf("%d gates failed", failed)
	}
	return nil
}
