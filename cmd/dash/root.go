package main

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/dash-fleet/dash/cmd/internal/config"
	"github.com/dash-fleet/dash/messages/next"
)

// run executes one command line and returns its exit code.
func run(ctx context.Context, args []string, t *terminal) int {
	root := newRoot(t)
	root.SetArgs(args)
	strictCompletion(root)
	cmd, err := root.ExecuteContextC(ctx)
	err = asUsage(cmd, err)
	wordsOf(cmd, err)
	report(t.err, err)
	return exitCode(err)
}

func newRoot(t *terminal) *cobra.Command {
	root := &cobra.Command{
		Use:   "dash",
		Short: "Control plane for fleets of OpenClaw gateways",
		Long: "Dash runs tasks on a fleet of OpenClaw gateways: in strict priority order, on gateways\n" +
			"that it keeps alive, and without losing an accepted task.\n\n" +
			"Commands over the API read DASH_URL (default " + defaultURL + ") and DASH_API_KEY. You\n" +
			"need no API key for a node that you started on this machine: the CLI uses its key.",
		Example: "  dash serve --dev\n  dash task submit --priority high --message 'Say hello.' --wait\n  dash gateway list",
		Args:    noArgs, RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
		SilenceErrors: true, SilenceUsage: true,
		SuggestionsMinimumDistance: 2,
		Version:                    version,
	}
	root.SetVersionTemplate(versionLine())
	root.SetIn(t.in)
	root.SetOut(t.out)
	root.SetErr(t.err)
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		advice := fmt.Sprintf(next.HelpListsFlags, cmd.CommandPath())
		if near := nearestFlag(cmd, err); near != "" {
			advice = fmt.Sprintf(next.MeantFlag, near)
		}
		return usage(advice, "%s", flagWords(cmd, err))
	})
	root.AddGroup(&cobra.Group{ID: "node", Title: "On a node:"}, &cobra.Group{ID: "fleet", Title: "Over the API:"})
	for group, commands := range map[string][]*cobra.Command{
		"node":  {serveCommand(t), configCommand(t), migrateCommand(t), backupCommand(t), restoreCommand(t), simCommand(t)},
		"fleet": {taskCommand(t), sessionCommand(t), gatewayCommand(t), poolCommand(t), nodeCommand(t), keyCommand(t), userCommand(t), tenantCommand(t), auditCommand(t), doctorCommand(t)},
	} {
		for _, c := range commands {
			c.GroupID = group
			root.AddCommand(c)
		}
	}
	root.SetHelpCommand(helpCommand())
	root.AddCommand(versionCommand(t))
	root.AddCommand(exitCodesTopic())
	completeEverywhere(t, root)
	return root
}

// helpCommand is cobra's, which says for an unknown topic that all is well.
func helpCommand() *cobra.Command {
	return &cobra.Command{
		Use: "help [COMMAND]", Short: "Help about any command or topic",
		Example: "  dash help task submit\n  dash help exit-codes",
		ValidArgsFunction: func(c *cobra.Command, args []string, _ string) (names []string, _ cobra.ShellCompDirective) {
			cmd, _, err := c.Root().Find(args)
			if err != nil {
				return nil, cobra.ShellCompDirectiveNoFileComp
			}
			for _, sub := range cmd.Commands() {
				names = append(names, cobra.CompletionWithDesc(sub.Name(), sub.Short))
			}
			return names, cobra.ShellCompDirectiveNoFileComp
		},
		RunE: func(c *cobra.Command, args []string) error {
			cmd, rest, err := c.Root().Find(args)
			if err != nil || len(rest) > 0 {
				return usage(fmt.Sprintf(next.HelpListsAll, "dash"), "dash help has no topic %q", strings.Join(args, " "))
			}
			cmd.InitDefaultHelpFlag()
			return cmd.Help()
		},
	}
}

// strictCompletion makes cobra's completion command refuse a shell that it does
// not know, which it takes for a wish to read its help.
func strictCompletion(root *cobra.Command) {
	root.InitDefaultCompletionCmd()
	for _, c := range root.Commands() {
		if c.Name() == "completion" {
			c.Args = noArgs
			c.RunE = func(c *cobra.Command, _ []string) error { return c.Help() }
		}
	}
}

// exitCodesTopic is a command that cannot be run, which cobra shows as an
// additional help topic.
func exitCodesTopic() *cobra.Command {
	return &cobra.Command{Use: "exit-codes", Short: "What the exit codes mean", Long: strings.TrimSpace(exitCodesHelp)}
}

// noun returns a command that only groups verbs.
func noun(use, short string, verbs ...*cobra.Command) *cobra.Command {
	c := &cobra.Command{Use: use, Short: short, Args: noArgs, SuggestionsMinimumDistance: 2}
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		return usage(fmt.Sprintf(next.HelpListsThem, cmd.CommandPath()), "%s needs a verb", cmd.CommandPath())
	}
	c.AddCommand(verbs...)
	return c
}

// noArgs refuses arguments and says what may have been meant.
func noArgs(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	advice := fmt.Sprintf(next.HelpListsAll, cmd.CommandPath())
	for _, s := range cmd.SuggestionsFor(args[0]) {
		if alike(args[0], s) {
			advice = fmt.Sprintf(next.MeantCommand, cmd.CommandPath(), s)
			break
		}
	}
	return usage(advice, "%s has no command or argument %q", cmd.CommandPath(), args[0])
}

// alike keeps guesses from being silly: two short words differ by two letters
// and have nothing to do with each other.
func alike(typed, known string) bool {
	return typed != "" && (typed[0] == known[0] || 2*config.Distance(typed, known) < len(typed))
}

// exactArgs asks for one argument per name.
func exactArgs(names ...string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		advice := fmt.Sprintf(next.Usage, cmd.UseLine())
		if len(args) < len(names) {
			return usage(advice, "%s needs %s", cmd.CommandPath(), strings.Join(names[len(args):], " and "))
		}
		if len(args) > len(names) {
			return usage(advice, "%s takes %d arguments, not %d", cmd.CommandPath(), len(names), len(args))
		}
		return nil
	}
}

// asUsage gives cobra's own errors, which have no type, the code of wrong usage,
// and wrong usage without advice the command's help.
func asUsage(cmd *cobra.Command, err error) error {
	if err == nil {
		return nil
	}
	help := fmt.Sprintf(next.HelpSaysHow, cmd.CommandPath())
	var f *failure
	if errors.As(err, &f) {
		if f.code == exitUsage && f.next == "" {
			f.next = help // the API names a wrong field, and no command
		}
		return err
	}
	for _, p := range []string{"unknown command", "required flag", "if any flags in the group", "at least one of the flags", "invalid argument"} {
		if strings.HasPrefix(err.Error(), p) {
			return usage(help, "%s", groupWords(err.Error()))
		}
	}
	return err
}

var group = regexp.MustCompile(`in the group \[([^]]*)\]`)

// groupWords names the flags of a rule about several as they are typed.
func groupWords(text string) string {
	m := group.FindStringSubmatch(text)
	if m == nil {
		return text
	}
	names := strings.Fields(m[1])
	for i := range names {
		names[i] = "--" + names[i]
	}
	if strings.HasPrefix(text, "at least one") {
		return "one of " + strings.Join(names, ", ") + " is needed"
	}
	return "only one of " + strings.Join(names, ", ") + " can be given"
}

// nearestFlag names the flag that was probably meant.
func nearestFlag(cmd *cobra.Command, err error) string {
	name, ok := strings.CutPrefix(err.Error(), "unknown flag: --")
	if !ok {
		return ""
	}
	best, least := "", 4
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		d := config.Distance(name, f.Name)
		if strings.HasPrefix(f.Name, name) {
			d = 1
		}
		if d < least && alike(name, f.Name) {
			best, least = f.Name, d
		}
	})
	return best
}
