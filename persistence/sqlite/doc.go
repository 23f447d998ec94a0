// Package sqlite is the embedded engine of package persistence: one folder, one
// process, no other dependency. Commit returns after the write-ahead log was
// fsynced, so an OK op survives the loss of the process and of power.
//
// A DB owns one writer connection, a few read connections and one goroutine,
// the checkpointer; Close ends all of them. DESIGN.md of package persistence
// has the schema, the failure table and the measured figures, the one beside
// this file what happens when the disk fails.
package sqlite
