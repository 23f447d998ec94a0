package main

import (
	"context"
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"github.com/dash-fleet/dash/messages/next"
)

func migrateCommand(t *terminal) *cobra.Command {
	return noun("migrate", "Show or change the schema of a node's store",
		migrateTo(t, up, "Bring the schema to this binary's version",
			"`dash serve` does this at its start. With the embedded store the node must be stopped; with\nPostgreSQL a lock lets one process at a time do it.", "  dash migrate up --data /var/lib/dash\n  dash migrate up --dry-run"),
		migrateTo(t, down, "Take the schema back, one version or --to another",
			"Going back may drop what newer versions stored. A rollback of Dash does not need it: the\nprevious binary runs on the new schema. All nodes must be stopped.",
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

func migrateTo(t *terminal, d direction, short, long, example string) *cobra.Command {
	var o output
	var to int64
	var dryRun, yes bool
	c := &cobra.Command{
		Use: string(d), Short: short, Long: short + ".\n" + long, Example: example, Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := check(o, stepColumns); err != nil {
				return err
			}
			m, err := openMigrator(t, cmd)
			if err != nil {
				return err
			}
			if d == down && !cmd.Flags().Changed("to") {
				if to, err = previous(cmd.Context(), m); err != nil {
					return storeError(err)
				}
			}
			return storeError(runMigration(cmd.Context(), t, o, m, d, to, dryRun, yes))
		},
	}
	storeFlags(c)
	o.addFlags(c)
	c.Flags().Int64Var(&to, "to", 0, "version to end at")
	c.Flags().BoolVar(&dryRun, "dry-run", false, "only show what would happen")
	if d == down {
		c.Flags().BoolVar(&yes, "yes", false, "do not ask")
	}
	return c
}

// previous is the version before the present one; 0 is an empty database.
func previous(ctx context.Context, m migrator) (int64, error) {
	all, current, err := m.status(ctx)
	if err != nil {
		return 0, err
	}
	var before int64
	for _, s := range all {
		if s.Version < current {
			before = max(before, s.Version)
		}
	}
	return before, nil
}

func runMigration(ctx context.Context, t *terminal, o output, m migrator, d direction, to int64, dryRun, yes bool) error {
	if d == down && !dryRun {
		plan, err := m.migrate(ctx, d, to, true)
		if err != nil {
			return err
		}
		words := fmt.Sprintf("%d migrations of %s will be taken back, to version %d; what they store is dropped", len(plan), m.where, to)
		if err := confirm(ctx, t, yes || len(plan) == 0, words, fmt.Sprint(to)); err != nil {
			return err
		}
	}
	out, err := m.migrate(ctx, d, to, dryRun)
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
		Long:    "List the migrations and which are applied. It only reads: nodes may run.",
		Example: "  dash migrate status --data /var/lib/dash",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := check(o, statusColumns); err != nil {
				return err
			}
			m, err := openMigrator(t, cmd)
			if err != nil {
				return err
			}
			out, current, err := m.status(cmd.Context())
			if err != nil {
				return storeError(err)
			}
			if err := printList(t, o, statusColumns, out); err != nil {
				return err
			}
			fmt.Fprintf(t.err, "%s is at version %d\n", m.where, current)
			if slices.ContainsFunc(out, func(s step) bool { return s.AppliedAt == "" }) {
				fmt.Fprintln(t.err, "next: "+next.ApplyMigrations)
			}
			return nil
		},
	}
	storeFlags(c)
	o.addFlags(c)
	return c
}
