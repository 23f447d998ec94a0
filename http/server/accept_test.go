package server

import (
	"bytes"
	"errors"
	"log/slog"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
)

// starving is a listener of a process that has no descriptor left.
type starving struct{ net.Listener }

func (starving) Accept() (net.Conn, error) {
	return nil, &net.OpError{Op: "accept", Err: os.NewSyscallError("accept4", syscall.EMFILE)}
}

// TestStarvedIsSaid: a want of descriptors is logged at the level warn, once in a
// while and not at every attempt, counted, and remembered for the node's health.
func TestStarvedIsSaid(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	s := &Server{accept: &accepting{Listener: starving{}, logger: slog.New(slog.NewTextHandler(&log, nil))}}
	if said := s.Checks(); len(said) > 0 {
		t.Errorf("before the first connection: %v", said)
	}
	for range 100 {
		_, err := s.accept.Accept()
		var temporary interface{ Temporary() bool }
		if !errors.Is(err, syscall.EMFILE) || !errors.As(err, &temporary) || !temporary.Temporary() {
			t.Fatalf("%v: net/http would end the server", err)
		}
	}
	if said := s.Checks(); len(said) != 1 || !said[0].OK || !strings.Contains(said[0].Detail, "100 connections had to wait") {
		t.Errorf("after 100 connections: %v", said)
	}
	if n := strings.Count(log.String(), "level=WARN"); n != 1 || !strings.Contains(log.String(), "too many open files") {
		t.Errorf("%d lines:\n%s", n, log.String())
	}
}
