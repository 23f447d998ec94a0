// Package session is the run machine of one claimed task at its gateway's
// owner: rules (a) to (f) of effects on a gateway, as one pure function.
//
// Start builds a Run, Decide takes one Input and returns the next Run and the
// Effects to carry out, in order. Nothing here does I/O, reads a clock, draws
// random numbers or starts a goroutine. DESIGN.md beside this file draws the
// machine and counts the states of the search that proves it.
package session
