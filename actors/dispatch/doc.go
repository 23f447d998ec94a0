// Package dispatch is everything of a pool's owner: admission, the strict
// order, claims, sessions, retries, and what becomes of tasks whose gateway is
// gone.
//
// A pool is a group of actors below one root (Props): an arbiter actor and one
// class dispatcher per priority class. A panic in any of them restarts the
// group, which reads everything back from the store; an accepted task is never
// lost by it and never claimed twice. The order itself is a pure Arbiter.
// Callers talk to it through a Client, which is safe for concurrent use.
//
// Goroutines: the group starts short-lived goroutines to read the store; each
// has a deadline, answers with a message, and ends with the group's context.
package dispatch
