package main

import (
	"github.com/spf13/cobra"

	"github.com/dash-fleet/dash/cmd/internal/config"
	"github.com/dash-fleet/dash/messages"
)

// completeEverywhere gives the flags that many commands have their values; a
// command that has offered better ones keeps them.
func completeEverywhere(t *terminal, c *cobra.Command) {
	fixed := func(values ...string) cobra.CompletionFunc {
		return cobra.FixedCompletions(values, cobra.ShellCompDirectiveNoFileComp)
	}
	for name, f := range map[string]cobra.CompletionFunc{
		"tenant": completeTenants(t), "code": fixed(messages.TaskCodes()...), "log-level": fixed(config.LogLevels()...),
		"store": fixed(config.EngineSQLite, config.EnginePostgres, config.EngineRedis),
	} {
		_, has := c.GetFlagCompletionFunc(name)
		if c.Flags().Lookup(name) != nil && !has {
			completeFlags(c, map[string]cobra.CompletionFunc{name: f})
		}
	}
	for _, sub := range c.Commands() {
		completeEverywhere(t, sub)
	}
}
