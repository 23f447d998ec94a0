// Package telemetry sets up what a process says about itself: structured logs
// that cannot carry a secret, and the Prometheus registry with the collectors
// every process has. It starts no goroutine.
package telemetry
