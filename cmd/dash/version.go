package main

import (
	"fmt"
	"runtime"

	"github.com/spf13/cobra"
)

func versionCommand(t *terminal) *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "Print the version of this binary", Args: noArgs,
		Example: "  dash version",
		RunE: func(*cobra.Command, []string) error {
			return write(t, versionLine())
		},
	}
}

// versionLine is also what `dash --version` prints.
func versionLine() string {
	return fmt.Sprintf("dash %s %s %s/%s\n", version, runtime.Version(), runtime.GOOS, runtime.GOARCH)
}
