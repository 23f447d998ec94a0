package dispatch

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/dash-fleet/dash/messages"
)

// TestARemovedGatewayGivesItsTasksBackAtOnce, by their on_unknown, and not
// after the time that a pool waits for one that is away.
func TestARemovedGatewayGivesItsTasksBackAtOnce(t *testing.T) {
	play(t, nil, func(t *testing.T, b *bench) {
		g := b.gateway("gw-1")
		hold := newTask(messages.High, "")
		hold.Spec.OnUnknown = string(messages.Hold)
		hold = b.submit(hold)
		again := b.submit(newTask(messages.Low, "s"))
		g.demand(2)
		g.assign()
		g.assign()
		waits := b.submit(newTask(messages.Low, "s"))
		began := time.Now()
		gone := func(d *messages.Demand) { d.Gone = true }
		g.demand(0, gone)
		synctest.Wait()
		wantRow(b, hold.ID, messages.Held, 1)
		wantRow(b, again.ID, messages.Queued, 0) // it is not to blame
		void := map[messages.ClaimRef]bool{}
		for range 2 {
			w := nextOf[messages.Withdraw](g)
			void[w.ClaimRef] = w.Held
		}
		if held, ok := void[messages.ClaimRef{Task: hold.ID, Claim: 1}]; !ok || !held || void[messages.ClaimRef{Task: again.ID, Claim: 1}] {
			t.Errorf("withdrawn %v", void)
		}
		if took := time.Since(began); took > 0 {
			t.Errorf("it took %s", took)
		}
		other := b.gateway("gw-2")
		other.demand(1)
		if a := other.assign(); a.Task.ID != again.ID || a.Task.Claim != 2 || renewals(a.Session) != 1 {
			t.Errorf("the other gateway got %+v", a)
		}
		wantRow(b, waits.ID, messages.Queued, 0)

		// Once it is silent it is no gateway of the pool any more.
		b.pass(messages.DemandTimeout+2*time.Second, other)
		if s := b.stats(); len(s.Gateways) != 1 || s.Gateways[0].ID != "gw-2" {
			t.Errorf("gateways %+v", s.Gateways)
		}
		g.epoch++
		g.demand(1) // a new one of that name
		synctest.Wait()
		if s := b.stats(); len(s.Gateways) != 2 || s.Gateways[0].Window != 1 {
			t.Errorf("gateways %+v", s.Gateways)
		}
	})
}
