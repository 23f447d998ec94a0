// Package openclawtest is a simulated OpenClaw gateway for tests and soak runs.
//
// A Gateway listens on a loopback port and behaves on the wire as an OpenClaw
// 2026.9.6 gateway does, the awkward parts included: idempotency that lives only
// in memory, its own re-run of an interrupted turn after a crash, bare time-outs,
// double error events, draining, 1012 and 1013 closes, queueing behind a busy
// session and behind the lane limit. A deterministic fake model answers every
// turn. Faults are injected while it runs, by Go or by POST /__sim.
//
// Guarantees: every accepted, started, finished, failed and aborted run is
// written to the ground-truth log before its effect can be seen; nothing a
// client sends makes a gateway grow without bound; Stop returns only after every
// goroutine of the gateway has ended.
//
// Goroutines: each open socket has a reader (the HTTP handler) and a writer, each
// life of a gateway has one HTTP server. Runs own no goroutine: each is a timer.
// All state of a gateway is guarded by one mutex.
package openclawtest
