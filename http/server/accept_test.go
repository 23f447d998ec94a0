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
	if lately, failed := s.Starved(); lately || failed != 0 {
		t.Errorf("before the first connection: %v, %d", lately, failed)
	}
	for range 100 {
		_, err := s.accept.Accept()
		var temporary interface{ Temporary() bool }
		if !errors.Is(err, syscall.EMFILE) || !errors.As(err, &temporary) || !temporary.Temporary() {
			t.Fatalf("%v: net/http would end the server", err)
		}
	}
	if lately, failed := s.Starved(); !lately || failed != 100 {
		t.Errorf("after 100 connections: %v, %d", lately, failed)
	}
	if n := strings.Count(log.String(), "level=WARN"); n != 1 || !strings.Contains(log.String(), "too many open files") {
		t.Errorf("%d lines:\n%s", n, log.String())
	}
}
