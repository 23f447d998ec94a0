package requests

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/dash-fleet/dash/actors/gateway"
	"github.com/dash-fleet/dash/http/server"
	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/persistence"
)

// many are the rows of so many gateways, and a store that has recorded nothing.
type many struct {
	persistence.Gateways
	persistence.Store
	n int
}

func (m many) Page(_ context.Context, _, after string, limit int) (rows []messages.Gateway, _ error) {
	for i := range m.n {
		if id := fmt.Sprintf("gw-%03d", i); id > after && len(rows) < limit {
			rows = append(rows, messages.Gateway{ID: id, Pool: []string{"even", "odd"}[i%2]})
		}
	}
	return rows, nil
}

func (many) GatewayStatuses(context.Context) ([]messages.GatewayStatus, error) { return nil, nil }

// owners answer at once, or never, and count the questions to each.
type owners struct {
	silent bool
	asked  map[string]int
}

func (o *owners) Gateway(id string) (*actor.PID, bool) { return actor.NewPID("here", id), true }

func (o *owners) Tell(pid *actor.PID, m any) {
	o.asked[pid.Id]++
	if !o.silent {
		m.(gateway.Inspect).Reply <- gateway.Snapshot{Status: messages.GatewayStatus{ID: pid.Id, State: messages.GatewayReady}}
	}
}

// TestAListAsksEachGatewayOnce, and nobody who is not shown but one, which says that
// there are more; owners that do not answer are waited for together.
func TestAListAsksEachGatewayOnce(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		filter        server.GatewayFilter
		limit         int
		silent        bool
		asked, listed int
		took          time.Duration
	}{
		"a page":              {limit: 100, asked: 101, listed: 100},
		"all":                 {limit: 1000, asked: 200, listed: 200},
		"a page of a pool":    {filter: server.GatewayFilter{Pool: "odd"}, limit: 40, asked: 48, listed: 40},
		"of a state":          {filter: server.GatewayFilter{States: []string{"QUARANTINED"}}, limit: 10, asked: 200},
		"nobody answers":      {limit: 100, silent: true, asked: 101, listed: 100, took: 4 * time.Second},
		"nobody, and for all": {limit: 1000, silent: true, asked: 200, listed: 200, took: 7 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				node, rows := &owners{silent: c.silent, asked: map[string]int{}}, many{n: 200}
				g := &Gateways{Store: rows, Repos: &persistence.Repositories{Gateways: rows}, Node: node}
				began := time.Now()
				list, _, err := g.List(t.Context(), c.filter, "", c.limit)
				if err != nil || len(list) != c.listed || time.Since(began) != c.took {
					t.Errorf("%d listed in %s, %v; want %d in %s", len(list), time.Since(began), err, c.listed, c.took)
				}
				if len(node.asked) != c.asked {
					t.Errorf("%d were asked, want %d", len(node.asked), c.asked)
				}
				for id, n := range node.asked {
					if n != 1 {
						t.Errorf("%s was asked %d times", id, n)
					}
				}
			})
		})
	}
}
