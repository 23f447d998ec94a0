// Package session is the run machine of one claimed task at its gateway's
// owner: rules (a) to (g) of DESIGN.md, as one pure function.
//
// Start builds a Run; decision.take decides one Input in place: it changes the
// Run and lists the Effects to carry out, in order. Nothing of it does I/O, reads
// a clock, draws random numbers or starts a goroutine. The tests call it as
// Decide, which leaves the Run that it is given as it was. DESIGN.md beside this file draws the
// machine and counts the states of the search that proves it.
package session
