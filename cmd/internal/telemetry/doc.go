// Package telemetry sets up what a process says about itself: structured logs
// that cannot carry a secret, and the Prometheus registry with the collectors
// every process has. Only an Output has a goroutine, from NewOutput to Close.
package telemetry
