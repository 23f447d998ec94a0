package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/dash-fleet/dash/messages/next"
)

// verb builds a command that calls the API: it checks the output flags first,
// so that a typing error is found before anything is changed.
func verb[T any](t *terminal, c *cobra.Command, columns []column[T], run func(ctx context.Context, c *client, o output, args []string) error) *cobra.Command {
	return command(c, columns, func(cmd *cobra.Command, o output, args []string) error {
		api, err := newClient(t)
		if err != nil {
			return err
		}
		return run(cmd.Context(), api, o, args)
	})
}

// command is a command that prints rows.
func command[T any](c *cobra.Command, columns []column[T], run func(cmd *cobra.Command, o output, args []string) error) *cobra.Command {
	o := &output{}
	o.addFlags(c)
	names := make([]string, len(columns))
	for i, col := range columns {
		names[i] = strings.ToLower(col.name)
	}
	completeFlags(c, map[string]cobra.CompletionFunc{"columns": cobra.FixedCompletions(names, cobra.ShellCompDirectiveNoFileComp)})
	c.SuggestionsMinimumDistance = 2
	if c.Args == nil {
		c.Args = noArgs
	}
	c.RunE = func(cmd *cobra.Command, args []string) error {
		if err := errors.Join(check(*o, columns), checkFlags(cmd)); err != nil {
			return err
		}
		return run(cmd, *o, args)
	}
	return c
}

// someArgs asks for at least one id.
func someArgs(what string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 {
			return usage(fmt.Sprintf(next.Usage, cmd.UseLine()), "%s needs %s", cmd.CommandPath(), what)
		}
		return nil
	}
}

// each does the same to several things and goes on after a failure. With one
// thing its error is returned as it is; with several, exit code 7 says that
// some succeeded.
func each(ctx context.Context, t *terminal, ids []string, do func(id string) error) error {
	if len(ids) == 1 {
		return do(ids[0])
	}
	var failed int
	var last error
	for _, id := range ids {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := do(id); err != nil {
			failed, last = failed+1, err
			report(t.err, named(id, err))
		}
	}
	switch failed {
	case 0:
		return nil
	case len(ids):
		return quietExit(exitCode(last))
	}
	return &failure{code: exitPartial, what: fmt.Sprintf("%d of %d failed", failed, len(ids)), next: next.ReasonsAbove}
}

// named says which of several things an error is about, unless it does.
func named(id string, err error) error {
	var f *failure
	if !errors.As(err, &f) || strings.Contains(f.what, id) {
		return err
	}
	of := *f
	of.what = id + ": " + f.what
	return &of
}

// confirm asks to type a name before something is destroyed. Without a
// terminal, --yes is needed.
func confirm(ctx context.Context, t *terminal, yes bool, plan, name string) error {
	if yes {
		return nil
	}
	if !t.asks {
		return usage(next.RepeatWithYes, "%s; this needs a confirmation, but there is no terminal to ask on", plan)
	}
	fmt.Fprintf(t.err, "%s\nType %q to continue: ", clean(plan), clean(name))
	// The read cannot be interrupted; Ctrl-C leaves it behind and the process ends.
	answer := make(chan string, 1)
	go func() {
		line, _ := bufio.NewReader(t.in).ReadString('\n') // an end of input is an empty answer
		answer <- strings.TrimSpace(line)
	}()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case a := <-answer:
		if a != name {
			return &failure{code: exitFailed, what: "not confirmed; nothing was changed"}
		}
		return nil
	}
}

// follow polls until done says so, telling of every change in words. Ctrl-C
// detaches.
func follow[T any](ctx context.Context, t *terminal, c *client, path, again string, look func(T) (words string, done bool, err error)) (T, error) {
	var said string
	for {
		var v T
		err := c.call(ctx, get(path, nil), &v)
		if err == nil {
			words, done, lookErr := look(v)
			if words != said {
				fmt.Fprintln(t.err, clean(words))
				said = words
			}
			if done || lookErr != nil {
				return v, lookErr
			}
		}
		var f *failure
		if errors.As(err, &f) && f.code != exitUnavailable {
			return v, err
		}
		select {
		case <-ctx.Done():
			fmt.Fprintf(t.err, "detached; it continues\n  look again: %s\n", again)
			return v, quietExit(exitInterrupted)
		case <-time.After(300 * time.Millisecond):
		}
	}
}

// pairs parses name=value flags.
func pairs(flag string, given []string) (map[string]string, error) {
	m := make(map[string]string, len(given))
	for _, kv := range given {
		k, v, ok := strings.Cut(kv, "=")
		if !ok || k == "" {
			return nil, usage(fmt.Sprintf(next.WritePair, flag), "--%s %q has no name and value", flag, kv)
		}
		m[k] = v
	}
	return m, nil
}

// query drops the parameters that are empty.
func query(kv ...string) url.Values {
	q := url.Values{}
	for i := 0; i+1 < len(kv); i += 2 {
		if kv[i+1] != "" {
			q.Set(kv[i], kv[i+1])
		}
	}
	return q
}

// opt returns nil for a zero value, which the API takes as "not given".
func opt[T comparable](v T) *T {
	var zero T
	if v == zero {
		return nil
	}
	return &v
}

func deref[T any](p *T) T {
	var zero T
	if p == nil {
		return zero
	}
	return *p
}

// age is a duration as people say it.
func age(d time.Duration) string {
	switch {
	case d < 0:
		return "in " + age(-d)
	case d < time.Second:
		return strconv.FormatInt(d.Milliseconds(), 10) + "ms"
	case d < time.Minute:
		return strconv.FormatFloat(d.Seconds(), 'f', 1, 64) + "s"
	case d < time.Hour:
		return fmt.Sprintf("%dm%02ds", int(d.Minutes()), int(d.Seconds())%60)
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh%02dm", int(d.Hours()), int(d.Minutes())%60)
	}
	return fmt.Sprintf("%dd", int(d.Hours()/24))
}

func when(p *time.Time) string {
	if p == nil || p.IsZero() {
		return ""
	}
	return p.UTC().Format(time.RFC3339)
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

func seconds(f float64) time.Duration { return time.Duration(f * float64(time.Second)) }
