package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/dash-fleet/dash/cmd/internal/config"
)

func configCommand(t *terminal) *cobra.Command {
	var out output
	c := &cobra.Command{
		Use: "config", Short: "Print the effective settings of `dash serve` and where each comes from", Args: noArgs,
		Long: "Merges defaults, file, environment and flags as `dash serve` does and prints the result.\n" +
			"Flags win over the environment, which wins over the file, which wins over the defaults.\n" +
			"Secrets are masked. Exits 2 when the settings are not valid.\n\n" +
			"A file is YAML with the names of the flags as keys, for example /etc/dash.yaml:\n\n" +
			"  listen: 127.0.0.1:7373\n  data: /var/lib/dash\n  openclaw-auto-start: true\n  gateway-networks: [10.1.0.0/16]",
		Example: "  dash config\n  dash config --config /etc/dash.yaml --listen :7373\n  dash config -o json",
		RunE: func(cmd *cobra.Command, _ []string) error {
			l, err := config.Load(config.Sources{Flags: cmd.Flags(), Environ: t.environ})
			if err != nil {
				return err
			}
			for _, w := range l.Warnings {
				fmt.Fprintln(t.err, "dash: warning:", clean(w))
			}
			return printList(t, out, settingColumns, l.Effective())
		},
	}
	config.AddFlags(c.Flags())
	out.addFlags(c)
	return c
}

var settingColumns = []column[config.Effective]{
	{name: "KEY", value: func(e config.Effective) string { return e.Key }},
	{name: "VALUE", value: func(e config.Effective) string { return e.Value }},
	{name: "ORIGIN", value: func(e config.Effective) string { return e.Origin }},
	{name: "ENV", wide: true, value: func(e config.Effective) string { return e.Env }},
	{name: "MEANING", wide: true, value: func(e config.Effective) string { return e.Help }},
}
