// Package daemon is a managed gateway's process as its owner sees it: what the
// launcher does, in the words of the gateway actor.
package daemon

import (
	"context"
	"errors"
	"strings"
	"sync"

	"github.com/dash-fleet/dash/actors/gateway"
	"github.com/dash-fleet/dash/actors/openclaw/launcher"
	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/messages/next"
)

// Process is one managed gateway's daemon.
type Process struct {
	launcher *launcher.Launcher
	start    bool // a missing daemon is started, else only a living one is adopted
	mu       sync.Mutex
	gateway  messages.Gateway
}

// New is the process of the gateway g. With start a missing one is started, else
// only a living one is adopted.
func New(l *launcher.Launcher, start bool, g messages.Gateway) *Process {
	return &Process{launcher: l, start: start, gateway: g}
}

// Configure implements gateway.Process.
func (p *Process) Configure(g messages.Gateway) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.gateway = g
}

func (p *Process) spec() launcher.Spec {
	p.mu.Lock()
	defer p.mu.Unlock()
	g := &p.gateway
	return launcher.Spec{ID: g.ID, Managed: *g.Managed, Token: g.Token, MaxConcurrency: g.MaxConcurrency}
}

// Ensure implements gateway.Process.
func (p *Process) Ensure(ctx context.Context) (gateway.Endpoint, error) {
	spec := p.spec()
	ensure := p.launcher.Ensure
	if !p.start {
		ensure = p.launcher.Adopt
	}
	e, err := ensure(ctx, spec)
	if errors.Is(err, launcher.ErrNotRunning) {
		return gateway.Endpoint{}, &gateway.StartError{
			Permanent: true, Reason: "its process is not running, and this node does not start gateways",
			NextStep: next.AutoStart, Err: err,
		}
	}
	if err != nil {
		var s *launcher.StartError
		if errors.As(err, &s) {
			return gateway.Endpoint{}, startError(s)
		}
		return gateway.Endpoint{}, err
	}
	return gateway.Endpoint{URL: e.URL, Token: e.Token, PID: e.PID, Adopted: e.Adopted, Stale: e.Stale}, nil
}

const (
	quotedLines = 3
	quotedBytes = 400
)

// startError says why a start failed, in the gateway's own last words where it
// had any.
func startError(s *launcher.StartError) *gateway.StartError {
	reason := s.Reason
	if s.Err != nil {
		reason += ": " + s.Err.Error()
	}
	var words []string
	for _, line := range s.LogTail {
		if line = strings.TrimSpace(line); line != "" {
			words = append(words, line)
		}
	}
	if words = words[max(0, len(words)-quotedLines):]; len(words) > 0 {
		said := strings.Join(words, " | ")
		if len(said) > quotedBytes { // the end of it says most
			said = "…" + strings.ToValidUTF8(said[len(said)-quotedBytes:], "")
		}
		reason += "; it printed last: " + said
	}
	return &gateway.StartError{Permanent: s.Permanent, Alive: s.Alive, Reason: reason, NextStep: s.NextStep, Err: s}
}

// AwaitExit implements gateway.Process.
func (p *Process) AwaitExit(ctx context.Context) bool {
	select {
	case <-p.launcher.Exited(p.spec().ID):
		return true
	case <-ctx.Done():
		return false
	}
}

// Rewrite implements gateway.Process.
func (p *Process) Rewrite(ctx context.Context) (gateway.Rewriting, error) {
	did, err := p.launcher.Rewrite(ctx, p.spec())
	return map[launcher.Rewriting]gateway.Rewriting{
		launcher.Unneeded: gateway.FileUnneeded, launcher.Present: gateway.FileUnchanged, launcher.Written: gateway.FileWritten,
	}[did], err
}

// Rewritten implements gateway.Process.
func (p *Process) Rewritten(ctx context.Context, taken bool) error {
	return p.launcher.Rewritten(ctx, p.spec().ID, taken)
}

// Stop implements gateway.Process.
func (p *Process) Stop(ctx context.Context) error {
	_, err := p.launcher.Stop(ctx, p.spec().ID)
	return unlessGone(err)
}

// Kill implements gateway.Process.
func (p *Process) Kill(ctx context.Context) error {
	_, err := p.launcher.Kill(ctx, p.spec().ID)
	return unlessGone(err)
}

func unlessGone(err error) error {
	if errors.Is(err, launcher.ErrNotRunning) {
		return nil
	}
	return err
}
