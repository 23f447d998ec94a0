package main

import (
	"time"

	"github.com/spf13/cobra"

	"github.com/dash-fleet/dash/actors/openclaw/openclawtest"
	"github.com/dash-fleet/dash/cmd/internal/telemetry"
	"github.com/dash-fleet/dash/messages/next"
)

func simCommand(t *terminal) *cobra.Command {
	var cfg openclawtest.SimConfig
	var managed bool
	c := &cobra.Command{
		Use: "sim", Short: "Serve simulated gateways, for tests and for trying things out",
		Long: "Gateway i listens on the port of --listen plus i. The log holds one JSON line per happening\nand is the ground truth for tests. POST /__sim on a gateway's port changes it while it runs.\n" +
			"With --managed the process stands in for one gateway daemon: it takes its settings from\nthe environment (OPENCLAW_CONFIG_PATH and others) and exits 0, 1 or 78 as the daemon does.",
		Example: "  dash sim --listen 127.0.0.1:19000 --gateways 3 --token secret --log sim.jsonl\n" +
			"  curl -d '{\"fail_rate\":0.5}' http://127.0.0.1:19000/__sim",
		Args: simArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			log, err := telemetry.NewLog(t.err, telemetry.LogOptions{Terminal: t.person})
			if err != nil {
				return err
			}
			defer log.Close(telemetry.LogPatience)
			logger := log.Logger
			if managed {
				return quietExit(openclawtest.RunManaged(cmd.Context(), t.getenv, logger))
			}
			if cfg.Token == "" {
				return usage(next.GiveSimToken, "simulated gateways need a token")
			}
			return openclawtest.RunSim(cmd.Context(), cfg, logger)
		},
	}
	fs := c.Flags()
	fs.StringVar(&cfg.Listen, "listen", "127.0.0.1:19000", "address of the first gateway; port 0 chooses free ports")
	fs.IntVar(&cfg.Gateways, "gateways", 1, "how many")
	fs.StringVar(&cfg.Token, "token", "", "token that clients must give")
	fs.DurationVar(&cfg.RunTime, "run-time", 50*time.Millisecond, "how long a run takes")
	fs.IntVar(&cfg.MaxConcurrent, "max-concurrent", 8, "runs that one gateway executes at once")
	fs.StringVar(&cfg.LogFile, "log", "", "ground-truth log, appended to")
	fs.StringVar(&cfg.StateDir, "state", "", "folder for what a real gateway keeps over a crash")
	fs.Float64Var(&cfg.TimeScale, "time-scale", 1, "factor on all times of the protocol")
	fs.StringVar(&cfg.Version, "openclaw-version", "", "OpenClaw release to play, such as 2026.8.2; empty: the newest known")
	fs.BoolVar(&managed, "managed", false, "stand in for one gateway daemon")
	return c
}

// simArgs lets a launcher pass the daemon's own arguments along with --managed.
func simArgs(cmd *cobra.Command, args []string) error {
	if managed, err := cmd.Flags().GetBool("managed"); err == nil && managed {
		return nil
	}
	return noArgs(cmd, args)
}
