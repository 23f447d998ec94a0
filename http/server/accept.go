package server

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync/atomic"
	"syscall"
	"time"
)

// starvedEvery bounds how often the want of descriptors is logged.
const starvedEvery = 10 * time.Second

// accepting counts the connections that could not be taken, and says so: to a
// client such a server looks dead. net/http tries again after 5 ms to 1 s.
type accepting struct {
	net.Listener
	connections *connections
	failed      atomic.Uint64
	// starved is when the process had no descriptor left for the last time, told
	// when that was logged, in nanoseconds.
	starved, told atomic.Int64
	logger        *slog.Logger
}

// Accept implements net.Listener.
func (a *accepting) Accept() (net.Conn, error) {
	conn, err := a.Listener.Accept()
	if err == nil {
		return a.connections.enter(conn), nil
	}
	if errors.Is(err, net.ErrClosed) {
		return nil, err
	}
	a.failed.Add(1)
	now := time.Now()
	if errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE) {
		a.starved.Store(now.UnixNano())
	}
	if last := a.told.Load(); now.Sub(time.Unix(0, last)) >= starvedEvery && a.told.CompareAndSwap(last, now.UnixNano()) {
		a.logger.Warn("connections have to wait: the system gives no more of them", slog.Uint64("failed", a.failed.Load()), slog.Any("err", err))
	}
	return nil, err
}

// starvedFor is how long a want of descriptors is remembered.
const starvedFor = time.Minute

// Checks warn of connections that had to wait lately because the process had no
// descriptor left.
func (s *Server) Checks() []Check {
	if time.Since(time.Unix(0, s.accept.starved.Load())) >= starvedFor {
		return nil
	}
	return []Check{{Name: "descriptors", OK: true,
		Detail: fmt.Sprintf("warning: the process has no file descriptor left at times, %d connections had to wait; raise its limit (ulimit -n)", s.accept.failed.Load())}}
}
