package main

import (
	"github.com/spf13/cobra"

	"github.com/dash-fleet/dash/cmd/internal/config"
)

func serveCommand(t *terminal) *cobra.Command {
	c := &cobra.Command{
		Use: "serve", Short: "Run a Dash node", Args: noArgs,
		Long: "Runs a node until it gets SIGINT or SIGTERM. Every flag is also a variable in the\n" +
			"environment (--log-level is DASH_LOG_LEVEL) and a key of the file given by --config.",
		Example: "  dash serve --dev\n  dash serve --data /var/lib/dash --listen :7373 --tls-cert cert.pem --tls-key key.pem\n  dash serve --config /etc/dash.yaml",
		RunE: func(cmd *cobra.Command, _ []string) error {
			l, err := config.Load(config.Sources{Flags: cmd.Flags(), Environ: t.environ})
			if err != nil {
				return err
			}
			return serve(cmd.Context(), t, l)
		},
	}
	config.AddFlags(c.Flags())
	return c
}
