package main

import (
	"github.com/spf13/cobra"

	"github.com/dash-fleet/dash/cmd/internal/config"
)

func serveCommand(t *terminal) *cobra.Command {
	c := &cobra.Command{
		Use: "serve", Short: "Run a Dash node", Args: noArgs,
		Long: "Runs a node until it gets SIGINT or SIGTERM. Every flag is also a variable in the\n" +
			"environment (--log-level is DASH_LOG_LEVEL) and a key of the file given by --config.\n\n" +
			"SIGHUP reads the file and the certificate again: --log-level and the certificate change at\n" +
			"once, the log names what needs a restart. A renewed certificate is also found without it.\n" +
			"Started from a terminal, SIGHUP means that the terminal is gone, and stops the node.\n" +
			"SIGUSR1, SIGUSR2 and SIGALRM stop it as SIGTERM does; SIGQUIT prints all goroutines and ends it.",
		Example: "  dash serve --dev\n  dash serve --data /var/lib/dash --listen :7373 --tls-cert cert.pem --tls-key key.pem\n  dash serve --config /etc/dash.yaml",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return serve(cmd.Context(), t, func() (*config.Loaded, error) {
				return config.Load(config.Sources{Flags: cmd.Flags(), Environ: t.environ})
			})
		},
	}
	config.AddFlags(c.Flags())
	return c
}
