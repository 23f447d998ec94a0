// Package tracing tells an OpenTelemetry collector what becomes of tasks, over
// OTLP and HTTP. A node has it only where --otel-endpoint is set.
//
// The trace of a task is its UUID, and needs no context that travels: whoever
// knows the task's id knows its trace. It has these spans:
//
//	task      from the submit to the last state; its id is made from the UUID
//	submit    the request; linked to the client's traceparent
//	attempt   one run on a gateway; its id is the claim, so it is the parent
//	          that the gateway's model calls name (the agent frame's traceparent)
//
// What is told comes from the events that the store has taken, so nothing is
// told that did not happen. It is told at most once, and nothing waits for it:
// what a slow collector has no room for is dropped and counted. It goes to the
// endpoint alone: a redirect is a refusal. A dead letter
// that is replayed ends again and tells its task span again, longer.
package tracing
