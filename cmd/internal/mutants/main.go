// Command mutants plants the bugs of the folder mutants, one at a time, runs
// the tests that should notice, and says which of them nothing notices. A bug
// is planted by an overlay of the build: the working tree is never touched, and
// the build cache is shared.
//
// It exits 1 when less than 95 % are found, when a survivor has no
// explanation, and when the list itself is wrong: a mutant that no longer
// applies or does not compile, or tests that fail without any mutant.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"slices"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "mutants:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, out io.Writer) error {
	flags := flag.NewFlagSet("mutants", flag.ContinueOnError)
	var (
		root    = flags.String("root", ".", "the repository")
		only    = flags.String("only", "", "run only mutants whose name matches this regular expression")
		jobs    = flags.Int("jobs", 1, "so many at once")
		limit   = flags.Duration("timeout", 5*time.Minute, "the tests of one mutant may take so long")
		applies = flags.Bool("check", false, "only make sure that every mutant still applies")
		again   = flags.Bool("again", false, "forget the results of earlier runs")
	)
	if err := flags.Parse(args); err != nil {
		return err
	}
	pattern, err := regexp.Compile(*only)
	if err != nil {
		return err
	}
	dir, err := filepath.Abs(*root)
	if err != nil {
		return err
	}
	all, err := readAll(filepath.Join(dir, "mutants"))
	if err != nil {
		return err
	}
	if err := check(dir, all); err != nil {
		return err
	}
	if *applies {
		fmt.Fprintf(out, "%d mutants apply\n", len(all))
		return nil
	}
	chosen := slices.DeleteFunc(slices.Clone(all), func(m mutant) bool { return !pattern.MatchString(m.Name) })
	if len(chosen) == 0 {
		return fmt.Errorf("no mutant matches %q", *only)
	}
	r := &runner{root: dir, limit: *limit, out: out, dir: filepath.Join(dir, "mutants", "out")}
	if err := r.open(*again); err != nil {
		return err
	}
	defer r.close()
	if err := r.prepare(ctx, chosen); err != nil {
		return err
	}
	r.runAll(ctx, chosen, max(1, *jobs))
	if ctx.Err() != nil {
		return fmt.Errorf("interrupted; the same command goes on with the rest: %w", ctx.Err())
	}
	return r.finish(all, chosen)
}
