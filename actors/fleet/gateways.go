package fleet

import (
	"context"
	"errors"
	"fmt"

	"github.com/dash-fleet/dash/actors/gateway"
	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/persistence"
)

// lastWords are what the last owners of gateways recorded, by id.
func (f *Fleet) lastWords(ctx context.Context) (map[string]messages.GatewayStatus, error) {
	statuses, err := f.cfg.Store.GatewayStatuses(ctx)
	if err != nil {
		return nil, fmt.Errorf("read gateway states: %w", err)
	}
	last := make(map[string]messages.GatewayStatus, len(statuses))
	for _, s := range statuses {
		if s.State != messages.GatewayRemoved { // else of an earlier gateway with that id
			last[s.ID] = s
		}
	}
	return last, nil
}

func (f *Fleet) startGateway(ctx context.Context, g messages.Gateway, last messages.GatewayStatus, again bool) error {
	if err := f.shard(ctx, g.ID, again); err != nil {
		return err
	}
	fence, err := f.cfg.Leases.Take(ctx, messages.GatewayScope, g.ID)
	if err != nil {
		return err
	}
	cfg, err := f.cfg.Gateway(ctx, g, fence, last)
	if err == nil {
		// First: an owner whose start nobody waited for is not one of an earlier gateway.
		f.made[g.ID], f.unsure[g.ID] = g.CreatedAt, g
		err = f.cfg.Node.AddGateway(ctx, cfg)
	}
	if err != nil {
		return fmt.Errorf("start gateway %s: %w", g.ID, ended(err))
	}
	return nil
}

// catchUp tells the owners that were started of what changed in their rows since these
// were read: whoever made a change found no owner to tell.
func (f *Fleet) catchUp(ctx context.Context) error {
	rows, err := f.unsureRows(ctx)
	if err != nil {
		return err
	}
	for _, row := range rows {
		from, unsure := f.unsure[row.ID]
		pid, runs := f.cfg.Node.Gateway(row.ID)
		if !unsure || !runs || row.Version == from.Version || !row.CreatedAt.Equal(from.CreatedAt) {
			continue
		}
		f.cfg.Node.Tell(pid, gateway.Configure{Gateway: row})
		switch {
		case row.Drained && !from.Drained:
			f.cfg.Node.Tell(pid, gateway.Drain{})
		case from.Drained && !row.Drained:
			f.cfg.Node.Tell(pid, gateway.Resume{})
		}
	}
	clear(f.unsure)
	return nil
}

func (f *Fleet) unsureRows(ctx context.Context) ([]messages.Gateway, error) {
	switch len(f.unsure) {
	case 0:
		return nil, nil
	case 1:
		for id := range f.unsure {
			g, err := f.cfg.Repos.Gateways.Get(ctx, id)
			if errors.Is(err, persistence.ErrNotFound) {
				return nil, nil // the next pass removes it
			}
			if err != nil {
				return nil, fmt.Errorf("read gateway %s: %w", id, err)
			}
			return []messages.Gateway{g}, nil
		}
	}
	rows, err := f.cfg.Repos.Gateways.List(ctx)
	if err != nil {
		return nil, fmt.Errorf("list gateways: %w", err)
	}
	return rows, nil
}

// StartGateway starts a gateway's owner now, also when the last one gave up; one that
// runs goes on. It ends one of an earlier gateway of that id, and waits for that.
func (f *Fleet) StartGateway(ctx context.Context, g messages.Gateway, last messages.GatewayStatus) error {
	for {
		gone, err := f.tryGateway(ctx, g, last)
		if gone == nil {
			return err
		}
		select {
		case <-gone:
		case <-ctx.Done():
			return fmt.Errorf("gateway %s is still stopping: %w", g.ID, ctx.Err())
		}
	}
}

func (f *Fleet) tryGateway(ctx context.Context, g messages.Gateway, last messages.GatewayStatus) (gone <-chan struct{}, err error) {
	if err := f.begin(ctx); err != nil {
		return nil, err
	}
	defer f.end()
	_, runs := f.cfg.Node.Gateway(g.ID)
	switch {
	case !runs:
		err := f.startGateway(ctx, g, last, false)
		if f.catchUp(ctx) != nil {
			f.Wake() // the next pass does it
		}
		return nil, err
	case f.made[g.ID].Equal(g.CreatedAt):
		return nil, nil
	}
	f.remove(g.ID)
	return f.cfg.Node.GatewayGone(g.ID), nil
}

// RemoveGateway tells the owner of a gateway whose row is gone to let go of it. It does
// not wait for the end.
func (f *Fleet) RemoveGateway(ctx context.Context, id string) {
	if f.begin(ctx) != nil {
		f.Wake() // the next pass does it
		return
	}
	defer f.end()
	f.remove(id)
}

func (f *Fleet) remove(id string) {
	if pid, runs := f.cfg.Node.Gateway(id); runs {
		f.cfg.Node.Root().Send(pid, gateway.Remove{})
	}
}
