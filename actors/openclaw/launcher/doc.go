// Package launcher starts, adopts, watches and stops the daemons of managed
// gateways on this host.
//
// Guarantees: a daemon outlives Dash (own process session, no parent-death
// signal, output to a file); the next Dash process finds it by its record and
// adopts it instead of starting a second one; one launcher at a time manages a
// gateway's folder (a lock the kernel frees with its holder); a process is
// signalled only through a pidfd whose host boot id, pid and start time were
// checked against the record; a gateway's token is in no argument list and in
// no environment. A living process that was ever ready is never ended unless
// Stop or Kill asks for it.
//
// Goroutines: one per watched process, waiting for its end, and one that keeps
// log files within their bound. Close ends them all and leaves every daemon
// running. Everything else runs in its caller.
//
// Linux only: elsewhere New answers messages.CodeNotSupported. See DESIGN.md.
package launcher
