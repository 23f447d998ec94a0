package dispatch

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/persistence"
)

// refuseUntilItCounts has a task of one attempt given back as often as that is
// free, and returns its next claim.
func refuseUntilItCounts(b *bench, g *fakeGateway) messages.ClaimRef {
	task := newTask(messages.Low, "")
	task.Spec.MaxAttempts = 1
	b.submit(task)
	g.demand(1)
	for range messages.MaxGivenBack {
		a := g.assign()
		ref := messages.ClaimRef{Task: a.Task.ID, Claim: a.Task.Claim}
		delete(g.running, ref)
		g.demand(1, func(d *messages.Demand) {
			d.Returned = []messages.Returned{{ClaimRef: ref, Reason: "busy", Refused: true}}
		})
		nextOf[messages.Taken](g)
	}
	a := g.assign()
	return messages.ClaimRef{Task: a.Task.ID, Claim: a.Task.Claim}
}

// TestCancelComesBeforeTheBounds: who cancelled a task is not told that it
// failed because nothing ran, whether or not the pool has heard of the flag.
func TestCancelComesBeforeTheBounds(t *testing.T) {
	for name, c := range map[string]struct {
		known bool
		away  bool
		state messages.TaskState
	}{
		"not cancelled":        {state: messages.DeadLetter},
		"refused":              {known: true, state: messages.Cancelled},
		"refused, not heard":   {state: messages.Cancelled},
		"gone for too long":    {known: true, away: true, state: messages.Cancelled},
		"gone, flag not heard": {away: true, state: messages.Cancelled},
	} {
		t.Run(name, func(t *testing.T) {
			play(t, func(c *Config) { c.Pool.AwaySeconds = 60 }, func(t *testing.T, b *bench) {
				g := b.gateway("gw-1")
				ref := refuseUntilItCounts(b, g)
				if c.known {
					if _, err := b.client.Cancel(b.ctx(), "default", ref.Task, ""); err != nil {
						t.Fatal(err)
					}
				} else if c.state == messages.Cancelled {
					out, err := b.store.Commit(b.ctx(), []persistence.Op{{Cancel: &persistence.CancelRequest{Tenant: "default", Task: ref.Task, At: messages.Now()}}})
					if err != nil || out[0].Status != persistence.OK {
						t.Fatal(out, err)
					}
				}
				if c.away {
					g.away = messages.Now().Add(-59 * time.Second)
					b.pass(10*time.Second, g)
				} else {
					delete(g.running, ref)
					for range 2 { // it is repeated until it was taken
						g.demand(1, func(d *messages.Demand) {
							d.Returned = []messages.Returned{{ClaimRef: ref, Reason: "busy", Refused: true}}
						})
						synctest.Wait()
					}
				}
				if row, err := b.store.Task(b.ctx(), "", ref.Task); err != nil || row.State != c.state {
					t.Errorf("%s with %v, %v, want %s", row.State, row.Error, err, c.state)
				}
			})
		})
	}
}

// TestDeathsThatThePoolHasNotSeenAreKept: the owner of a gateway writes them while
// the claim goes on; what the pool writes next must not take them away.
func TestDeathsThatThePoolHasNotSeenAreKept(t *testing.T) {
	for name, away := range map[string]bool{"given back": false, "taken away": true} {
		t.Run(name, func(t *testing.T) {
			play(t, func(c *Config) { c.Pool.AwaySeconds = 60 }, func(t *testing.T, b *bench) {
				g := b.gateway("gw-1")
				g.demand(1)
				task := b.submit(newTask(messages.Low, ""))
				a := g.assign()
				ref := messages.ClaimRef{Task: task.ID, Claim: a.Task.Claim}
				died := a.Task
				died.CountDeath(messages.Now(), false)
				out, err := b.store.Commit(b.ctx(), []persistence.Op{{Update: &persistence.TaskUpdate{Task: died, From: messages.Claimed, FromClaim: ref.Claim}}})
				if err != nil || out[0].Status != persistence.OK {
					t.Fatal(out, err)
				}
				if away {
					g.demand(1, func(d *messages.Demand) {
						d.AwaySince = messages.Now().Add(-time.Hour)
						d.Trials = map[messages.ClaimRef]*messages.Trials{ref: died.Trials}
					})
					time.Sleep(3 * time.Second) // the pool looks by the clock
				} else {
					clear(g.running)
					g.demand(0, func(d *messages.Demand) {
						d.Returned = []messages.Returned{{ClaimRef: ref, Reason: "not sent", Trials: died.Trials}}
					})
				}
				synctest.Wait()
				row := wantRow(b, task.ID, messages.Queued, 0)
				if n, back := len(row.Trials.GetDeaths()), row.Trials.GetGivenBack(); n != 1 || back != 1 {
					t.Errorf("%d deaths, %d given back, want 1 and 1", n, back)
				}
			})
		})
	}
}
