// Command bench compares Dash with asynq and River: on the same private
// servers, in the same run, in interleaved rounds. It prints a table of medians
// and ratios and writes every measurement as JSON. README.md says what each row
// means and how the settings were chosen.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"regexp"
	"slices"
	"strings"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	err := run(ctx, os.Args[1:])
	if errors.Is(err, flag.ErrHelp) {
		return
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		if strings.Contains(err.Error(), "infrastructure missing: ") {
			os.Exit(69)
		}
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	if len(args) > 0 && (args[0] == "asynq" || args[0] == "river") {
		return runNode(ctx, args[0], args[1:], os.Stdin, os.Stdout)
	}
	var o runOptions
	f := flag.NewFlagSet("bench", flag.ContinueOnError)
	f.StringVar(&o.dash, "dash", "bin/benchnode", "Dash's node: cmd/internal/benchnode, built")
	f.StringVar(&o.out, "out", "soak/bench/out", "folder for results.jsonl, to which every run adds, and table.md")
	f.IntVar(&o.rounds, "rounds", 3, "rounds; in each, every case is run once, the systems of a row one after the other")
	f.DurationVar(&o.duration, "duration", 3*time.Second, "how long producers enqueue")
	f.IntVar(&o.load, "load", 100_000, "tasks of the load rows")
	only := f.String("only", "", "pattern of the rows to run, such as 'throughput redis always'; empty: all")
	among := f.String("systems", "", "pattern of the systems to run, such as 'Dash|best'; empty: all")
	tableOnly := f.Bool("table", false, "print the table of what results.jsonl holds and run nothing")
	search := f.String("search", "", "measure many settings of asynq or river instead, in the rows with 64 producers that --only leaves")
	f.BoolVar(&o.keep, "keep", false, "keep what results.jsonl holds and add to it")
	if err := f.Parse(args); err != nil {
		return err
	}
	o.systems = systems
	var err error
	if *search != "" {
		if o.systems, err = candidates(*search); err != nil {
			return err
		}
		o.rows = []row{{"throughput", redisAlways, 64}, {"throughput", redisEverysec, 64}, {"throughput", postgresOn, 64}}
	} else {
		o.rows = rows()
	}
	contenders, err := regexp.Compile(*among)
	if err != nil {
		return fmt.Errorf("--systems: %w", err)
	}
	o.systems = slices.DeleteFunc(slices.Clone(o.systems), func(s system) bool { return !contenders.MatchString(s.name) })
	if *tableOnly {
		return printTable(o, os.Stdout)
	}
	if o.only, err = regexp.Compile(*only); err != nil {
		return fmt.Errorf("--only: %w", err)
	}
	if err := measureAll(ctx, o, os.Stderr); err != nil {
		return err
	}
	return printTable(o, os.Stdout)
}
