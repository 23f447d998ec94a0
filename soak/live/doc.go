// Package live proves, behind the build tag live, that Dash runs real OpenClaw
// gateways: the built binary starts them itself, and tasks, cancels, crashes,
// restarts, sessions and drains are judged by what a fake model was asked and
// by what the operating system says of the processes. `make live` runs it.
package live
