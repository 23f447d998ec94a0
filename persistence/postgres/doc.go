// Package postgres is the store engine for several nodes: PostgreSQL 13 or
// later through pgx. A Commit is one call of one set-based function in one
// transaction, with the fences locked in it; only the server's clock judges
// leases. A lost connection never leaves an outcome guessed: it is read back.
//
// A DB owns the goroutines of its connection pools, which end with Close, and
// one per Listen, which ends with the context given there.
package postgres
