// Package openclaw is the southbound client of one OpenClaw gateway: a
// WebSocket connection that speaks wire protocol 4.
//
// A Conn is one connection to one gateway process. It never reconnects and
// never re-sends by itself: what to do after a loss depends on the state of
// the task, which the owner of the gateway knows. What a Conn does guarantee:
//
//   - frames leave in the order of the calls that made them;
//   - every Agent call ends with exactly one of in-flight, final, failed or
//     lost, at most one accepted before it, all from the reader goroutine;
//   - success is reported only for an answer that says ok twice (frame and
//     payload) and names the run that was asked for;
//   - whatever the gateway sends, nothing panics, blocks for ever or grows
//     without a bound: frames, JSON depth, pending requests, the outgoing
//     queue and all texts are limited;
//   - "nothing was written" is said only when it is certain.
//
// A Conn owns two goroutines, a reader and a writer; both have ended when Done
// is closed. Callbacks (the functions given to Agent, and the Handler) run on
// the reader and must not block, nor call a blocking method of the same Conn.
// See DESIGN.md for the picture and the failure table.
package openclaw
