//go:build !linux

package postgres

import (
	"syscall"
	"time"
)

// userTimeout does nothing here: keepalive and the deadlines of the round trips
// notice a dead peer, a little later.
func userTimeout(time.Duration) func(network, address string, c syscall.RawConn) error { return nil }
