// Package ratelimit judges whether a request of a key fits its limit per
// minute.
//
// A key may save up one minute's worth of requests and use them at once; what
// is used comes back evenly (the generic cell rate algorithm, a token bucket
// that is one number). Local counts in this process. Shared has a Redis server
// count for all nodes and falls back to a Local whenever the server does not
// answer in time: a decision is always made, after at most Config.Timeout, and
// no request is refused for the sake of Redis. DESIGN.md has the failure table.
//
// All types are safe for concurrent use. Shared owns one goroutine, from Start
// to Stop.
package ratelimit
