// Package messages is the vocabulary of Dash: ids, priority classes, the state
// tables of tasks, gateways and sessions, error codes, secrets, and the
// protobuf parts of tasks and events. It is pure: it imports nothing else of Dash,
// starts no goroutine and does no I/O.
package messages

//go:generate protoc --go_out=. --go_opt=paths=source_relative dash.proto
