// Package wire is the one byte form of tasks, of sessions and of the messages
// between a pool's owner and a gateway's owner. Stores and nodes use it, so what
// an older release wrote stays readable.
//
// Guarantees: a value comes back as it was, with times in microseconds and in UTC
// and with nil for empty lists and maps; text that is not UTF-8 has U+FFFD in
// place of what is wrong. What is decoded keeps no part of the bytes.
package wire

//go:generate protoc -I. -I.. --go_out=. --go_opt=paths=source_relative wire.proto
