// Command dash is Dash's one binary: the server ("dash serve"), its simulated
// gateways ("dash sim") and the client of its API (every other noun).
//
// It has one file per noun. What a command prints as data goes to stdout, what
// it says to a person goes to stderr; exit codes are those of "dash help
// exit-codes".
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

// version is set by the linker from git; see the Makefile.
var version = "dev"

func main() { os.Exit(realMain()) }

func realMain() int {
	// With SIGPIPE ignored a closed pipe is an error of the write, which ends
	// the command quietly (see exitCode), also as "dash task list | head -1".
	signal.Ignore(syscall.SIGPIPE)
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	// A second signal ends the process at once.
	context.AfterFunc(ctx, stop)
	return run(ctx, os.Args[1:], systemTerminal())
}
