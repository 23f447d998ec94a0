package requests

import (
	"context"
	"slices"
	"sync"

	"github.com/dash-fleet/dash/http/server"
	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/persistence"
)

// listStep is how many rows of gateways a list has read and not yet looked at: a
// row may be long, and what is not shown of it is let go at once.
const listStep = 32

// List implements server.Gateways: each gateway's owner is asked once, those of a
// step all at once.
func (c *Gateways) List(ctx context.Context, f server.GatewayFilter, after string, limit int) (list []server.Gateway, more bool, err error) {
	recorded := sync.OnceValues(func() ([]messages.GatewayStatus, error) { return c.Store.GatewayStatuses(ctx) })
	for bytes := 0; ; {
		step := listStep
		if f.Pool == "" && len(f.States) == 0 {
			step = min(step, limit+1-len(list)) // nobody is asked who cannot be shown, but one
		}
		rows, err := c.Repos.Gateways.Page(ctx, f.Tenant, after, step)
		if err != nil {
			return nil, false, persistence.Refusal(err, "gateway", "")
		}
		read := len(rows)
		if read > 0 {
			after = rows[read-1].ID
		}
		rows = slices.DeleteFunc(rows, func(g messages.Gateway) bool { return f.Pool != "" && g.Pool != f.Pool })
		ids := make([]string, len(rows))
		for i := range rows {
			ids[i] = rows[i].ID
		}
		said := c.Ask(ctx, ids...)
		for i := range rows {
			g := show(withoutHidden(rows[i]), said, recorded)
			if len(f.States) > 0 && !slices.Contains(f.States, g.Status.State.String()) {
				continue
			}
			if bytes += shownBytes(&g.Config); len(list) == limit || len(list) > 0 && bytes > persistence.PageBytes {
				return list, true, nil
			}
			list = append(list, g)
		}
		if read < step {
			return list, false, nil
		}
	}
}

// withoutHidden is a gateway without the parts that may be long and are never shown.
func withoutHidden(g messages.Gateway) messages.Gateway {
	if g.Managed == nil {
		return g
	}
	m := *g.Managed
	m.Config, m.Env = nil, make(map[string]string, len(m.Env))
	for name := range g.Managed.Env {
		m.Env[name] = ""
	}
	g.Managed = &m
	return g
}

// shownBytes is about what a gateway takes in memory, with its state.
func shownBytes(g *messages.Gateway) int {
	n := 1 << 10
	for name, v := range g.Labels {
		n += len(name) + len(v)
	}
	texts := g.Capabilities
	if m := g.Managed; m != nil {
		texts = slices.Concat(texts, m.Command)
		for name := range m.Env {
			n += len(name)
		}
	}
	for _, s := range texts {
		n += len(s)
	}
	return n + len(g.URL)
}
