// Package harness runs Dash and simulated gateways as processes and drives them
// from outside: over the API, the simulators' ports, signals and files. What
// clients did and saw becomes a judge.History.
//
// Every process it starts has a process group of its own and is ended by its
// pid when the Bench is closed. Goroutines: a Watcher owns one, a Load owns its
// workers, a Sampler owns one; each ends with the context it was started with
// and is waited for by its Stop or Wait.
package harness
