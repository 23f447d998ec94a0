package fleet

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/dash-fleet/dash/actors/openclaw/launcher"
	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/persistence"
)

// A gateway may be removed, or get another home, at a node that cannot reach
// its process. That process then belongs to nobody, and its home stops it: also
// one that stands by, and one that was dead at the time.

const (
	strayLook = 10 * time.Second // pause between two looks
	strayRead = 2 * time.Second  // what the store has to answer
	// strayStop bounds the drain of a process that is asked to end, and
	// strayKill what follows when it does not.
	strayStop = 330 * time.Second
	strayKill = 30 * time.Second
)

// Strays stops processes without a gateway. Its methods are safe for concurrent use.
type Strays struct {
	Processes interface {
		Launched() ([]string, error)
		Stop(ctx context.Context, id string) (launcher.Exit, error)
		Kill(ctx context.Context, id string) (launcher.Exit, error)
		Forget(ctx context.Context, id string) error
	}
	Gateways persistence.Gateways
	Store    Store
	// Keeps: the gateway is at home here.
	Keeps func(*messages.Gateway) bool
	// Owned: the gateway's owner is here, and ends its process.
	Owned  func(id string) bool
	Logger *slog.Logger

	mu    sync.Mutex      // one look at a time
	ended map[string]bool // no process was left at the last look
}

// stray says whether the process of the gateway id, in this node's folder, belongs to
// nobody. Of a gateway that the store never knew nobody can tell: it may be the wrong store.
func (s *Strays) stray(id string, all []messages.Gateway, known []messages.GatewayStatus) bool {
	i := slices.IndexFunc(all, func(g messages.Gateway) bool { return g.ID == id })
	if i < 0 {
		return slices.ContainsFunc(known, func(s messages.GatewayStatus) bool { return s.ID == id })
	}
	return all[i].Managed == nil || !s.Keeps(&all[i])
}

// Watch looks again and again until ctx ends.
func (s *Strays) Watch(ctx context.Context) {
	t := time.NewTicker(strayLook)
	defer t.Stop()
	for {
		if err := s.End(ctx); err != nil && ctx.Err() == nil {
			s.Logger.Warn("processes of removed gateways could not be looked for", slog.Any("err", err))
		}
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
	}
}

// End is one look: it stops what belongs to nobody.
func (s *Strays) End(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	ids, err := s.Processes.Launched()
	if err != nil || len(ids) == 0 {
		return err
	}
	look, cancel := context.WithTimeout(ctx, strayRead)
	defer cancel()
	all, err := s.Gateways.List(look)
	if err != nil {
		return fmt.Errorf("list gateways: %w", err)
	}
	known, err := s.Store.GatewayStatuses(look)
	if err != nil {
		return fmt.Errorf("read gateway states: %w", err)
	}
	if s.ended == nil {
		s.ended = map[string]bool{}
	}
	for _, id := range ids {
		switch {
		case !s.stray(id, all, known):
			delete(s.ended, id)
		case !s.ended[id] && !s.Owned(id):
			err = errors.Join(err, s.end(ctx, id))
			s.ended[id] = err == nil
		}
	}
	return err
}

// end stops a process; its folder stays, as that of any removed gateway.
func (s *Strays) end(ctx context.Context, id string) error {
	limit, cancel := context.WithTimeout(ctx, strayStop)
	defer cancel()
	_, err := s.Processes.Stop(limit, id)
	if errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil {
		kill, cancel := context.WithTimeout(ctx, strayKill)
		defer cancel()
		_, err = s.Processes.Kill(kill, id)
	}
	switch {
	case err == nil:
		s.Logger.Warn("stopped the process of a gateway that was removed, or whose home is another node by now", slog.String("gateway", id))
	case !errors.Is(err, launcher.ErrNotRunning):
		return fmt.Errorf("stop the process of gateway %s: %w", id, err)
	}
	return s.Processes.Forget(ctx, id)
}
