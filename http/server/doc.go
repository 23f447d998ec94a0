// Package server answers Dash's API: it checks requests against the OpenAPI
// document, asks who calls, turns them into commands and the answers into JSON.
//
// Guarantees: no route is open unless it was registered as public. Nothing is
// routed that is not in canonical form. What is answered fits the document.
// Requests in flight, bodies, headers, waits and streams are bounded. A panic
// of a handler answers 500 and nothing else. The Server owns the goroutines of
// its connections from Start to Stop; Stop waits for them.
package server
