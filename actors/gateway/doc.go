// Package gateway is the owner of one gateway (G): an actor that keeps the
// connection (and for a managed gateway the process) alive, asks its pool for
// work, hands each claim to a session actor below it, and settles what a lost
// or restarted gateway process left behind.
//
// Guarantees: every `agent` frame is written by this actor, in the order of
// the claims; nothing is sent before the gateway's boot id is durable under
// the owner's fence; a claim that was certainly not sent goes back to the pool
// as evidence, everything else is settled by its session actor.
//
// The actor owns short-lived goroutines for dialling, reading and calling, all
// with a deadline; their results come back as messages that carry the
// incarnation they belong to.
package gateway
