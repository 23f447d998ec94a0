package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/dash-fleet/dash/cmd/internal/config"
	"github.com/dash-fleet/dash/persistence/sqlite"
)

func migrateCommand(t *terminal) *cobra.Command {
	return noun("migrate", "Change or look at the schema of a node's store",
		migrateTo(t, sqlite.Up, "Bring the schema to this binary's version",
			"`dash serve` does this by itself. The node must be stopped.", "  dash migrate up --data /var/lib/dash\n  dash migrate up --dry-run"),
		migrateTo(t, sqlite.Down, "Take the schema back, one version or --to another",
			"Going back may drop what newer versions stored. A rollback of Dash does not need it: the\nprevious binary runs on the new schema. The node must be stopped.",
			"  dash migrate down --data /var/lib/dash --dry-run\n  dash migrate down --to 1 --yes"),
		migrateStatus(t))
}

// step is one migration as printed.
type step struct {
	Version   int64   `json:"version"`
	Name      string  `json:"name"`
	Direction string  `json:"direction,omitempty"`
	AppliedAt string  `json:"applied_at,omitempty"`
	Seconds   float64 `json:"took_seconds,omitempty"`
}

var stepColumns = []column[step]{
	{name: "VERSION", value: func(s step) string { return fmt.Sprint(s.Version) }},
	{name: "NAME", value: func(s step) string { return s.Name }},
	{name: "DIRECTION", value: func(s step) string { return s.Direction }},
	{name: "TOOK", value: func(s step) string {
		if s.Seconds == 0 {
			return ""
		}
		return age(seconds(s.Seconds))
	}},
}

var statusColumns = []column[step]{
	{name: "VERSION", value: func(s step) string { return fmt.Sprint(s.Version) }},
	{name: "NAME", value: func(s step) string { return s.Name }},
	{name: "APPLIED", value: func(s step) string {
		if s.AppliedAt == "" {
			return "pending"
		}
		return s.AppliedAt
	}},
}

// dataFolder reads --data as `dash serve` does.
func dataFolder(t *terminal, cmd *cobra.Command) (string, error) {
	l, err := config.Load(config.Sources{Flags: cmd.Flags(), Environ: t.environ})
	if err != nil {
		return "", err
	}
	if l.Data == "" {
		return "", usage("give --data", "a node with --dev has no store that stays")
	}
	if _, err := os.Stat(l.Data); errors.Is(err, os.ErrNotExist) {
		return "", &failure{code: exitNotFound, what: "there is no store in " + l.Data, next: "give the node's folder with --data"}
	}
	return l.Data, nil
}

// storeFlags are the settings that say where the store is.
func storeFlags(c *cobra.Command) {
	c.Flags().String("data", "", "folder of the embedded store (default that of dash serve)")
	c.Flags().String(config.FileFlag, "", "YAML file with settings, as for dash serve")
}

func migrateTo(t *terminal, d sqlite.Direction, short, long, example string) *cobra.Command {
	var o output
	var to int64
	var dryRun, yes bool
	c := &cobra.Command{
		Use: string(d), Short: short, Long: short + ".\n" + long, Example: example, Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := check(o, stepColumns); err != nil {
				return err
			}
			dir, err := dataFolder(t, cmd)
			if err != nil {
				return err
			}
			if d == sqlite.Down && !cmd.Flags().Changed("to") {
				if to, err = previous(cmd.Context(), dir); err != nil {
					return inUse(err)
				}
			}
			return inUse(runMigration(cmd.Context(), t, o, dir, d, to, dryRun, yes))
		},
	}
	storeFlags(c)
	o.addFlags(c)
	c.Flags().Int64Var(&to, "to", 0, "version to end at")
	c.Flags().BoolVar(&dryRun, "dry-run", false, "only say what would happen")
	if d == sqlite.Down {
		c.Flags().BoolVar(&yes, "yes", false, "do not ask")
	}
	return c
}

// previous is the version before the present one; 0 is an empty database.
func previous(ctx context.Context, dir string) (int64, error) {
	all, current, err := sqlite.Status(ctx, dir)
	if err != nil {
		return 0, err
	}
	var before int64
	for _, m := range all {
		if m.Version < current {
			before = max(before, m.Version)
		}
	}
	return before, nil
}

func runMigration(ctx context.Context, t *terminal, o output, dir string, d sqlite.Direction, to int64, dryRun, yes bool) error {
	if d == sqlite.Down && !dryRun {
		plan, err := sqlite.Migrate(ctx, dir, d, to, true)
		if err != nil {
			return err
		}
		words := fmt.Sprintf("%d migrations of the store in %s will be taken back, to version %d; what they store is dropped", len(plan), dir, to)
		if err := confirm(ctx, t, yes || len(plan) == 0, words, fmt.Sprint(to)); err != nil {
			return err
		}
	}
	steps, err := sqlite.Migrate(ctx, dir, d, to, dryRun)
	out := make([]step, len(steps))
	for i, s := range steps {
		out[i] = step{Version: s.Version, Name: s.Name, Direction: string(s.Direction), Seconds: s.Took.Seconds()}
	}
	if len(out) > 0 || err == nil {
		if printErr := printList(t, o, stepColumns, out); printErr != nil {
			return printErr
		}
	}
	if len(out) == 0 && err == nil {
		fmt.Fprintln(t.err, "nothing to do")
	}
	return err
}

func migrateStatus(t *terminal) *cobra.Command {
	var o output
	c := &cobra.Command{
		Use: "status", Short: "List the migrations and which are applied", Args: noArgs,
		Long:    "List the migrations and which are applied. The node must be stopped.",
		Example: "  dash migrate status --data /var/lib/dash",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := check(o, statusColumns); err != nil {
				return err
			}
			dir, err := dataFolder(t, cmd)
			if err != nil {
				return err
			}
			all, current, err := sqlite.Status(cmd.Context(), dir)
			if err != nil {
				return inUse(err)
			}
			out := make([]step, len(all))
			for i, m := range all {
				out[i] = step{Version: m.Version, Name: m.Name}
				if !m.AppliedAt.IsZero() {
					out[i].AppliedAt = m.AppliedAt.UTC().Format(time.RFC3339)
				}
			}
			if err := printList(t, o, statusColumns, out); err != nil {
				return err
			}
			fmt.Fprintf(t.err, "the store is at version %d\n", current)
			return nil
		},
	}
	storeFlags(c)
	o.addFlags(c)
	return c
}

// inUse gives the conflict with a running node its words and exit code.
func inUse(err error) error {
	var locked *sqlite.LockedError
	if errors.As(err, &locked) {
		return storeInUse(locked)
	}
	return err
}
