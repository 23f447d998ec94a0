// Package judge reads what clients, Dash and the simulated gateways wrote down
// about one run and says what was not as promised.
//
// It is pure: no I/O, no clock, no goroutine. It trusts the simulators' logs
// and the clients, and nothing that Dash says without a second witness. It has
// no tolerance: a finding is a broken promise, never a statistic.
package judge
