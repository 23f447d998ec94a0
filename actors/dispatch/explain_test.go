package dispatch

import (
	"testing"
	"testing/synctest"

	"github.com/dash-fleet/dash/messages"
)

func TestExplainSaysWhyATaskWaits(t *testing.T) {
	play(t, nil, func(t *testing.T, b *bench) {
		why := func(id, want string) {
			t.Helper()
			synctest.Wait()
			if e, err := b.client.Explain(b.ctx(), "default", "", id); err != nil || e.Reason != want {
				t.Errorf("%q, %v, want %q", e.Reason, err, want)
			}
		}
		plain := b.submit(newTask(messages.Low, ""))
		why(plain.ID, "the pool default has no gateway: add one with `dash gateway add`")

		needs := func(change func(*messages.Task)) messages.Task {
			task := newTask(messages.Low, "")
			change(&task)
			return b.submit(task)
		}
		tenant := needs(func(t *messages.Task) { t.Tenant = "acme" })
		region := needs(func(t *messages.Task) { t.Spec.Region = "mars" })
		able := needs(func(t *messages.Task) { t.Spec.Capabilities = []string{"vision", "gpu"} })
		g := b.gateway("gw-1")
		g.demand(0)
		why(tenant.ID, "no gateway of the pool default serves tenant acme: add one with `dash gateway add`")
		why(region.ID, "no gateway of the pool default is in region mars: add one with `dash gateway add`")
		why(able.ID, "no gateway of the pool default has the capabilities gpu, vision together: add one with `dash gateway add`")
		why(plain.ID, "no gateway that fits takes work now: look at `dash gateway list`")

		g.demand(1)
		g.assign()
		why(plain.ID, "") // it runs
		second := b.submit(newTask(messages.Low, ""))
		why(second.ID, "every gateway that fits is busy")
	})
}

// TestExplainNamesReservedSlots: a class that other classes' slots keep out
// says so, and for ever is told from for now.
func TestExplainNamesReservedSlots(t *testing.T) {
	play(t, func(c *Config) { c.Pool.Reserved = map[messages.Class]int{messages.Critical: 2, messages.High: 1} }, func(t *testing.T, b *bench) {
		g := b.gateway("gw-1")
		g.demand(3)
		low := b.submit(newTask(messages.Low, ""))
		why := func(id, want string) {
			t.Helper()
			synctest.Wait()
			if e, err := b.client.Explain(b.ctx(), "default", "", id); err != nil || e.Reason != want {
				t.Errorf("%q, %v, want %q", e.Reason, err, want)
			}
		}
		never := "reserved: the pool has 3 slots and keeps 3 for other classes (critical 2, high 1), so that no low task starts"
		why(low.ID, never+": add gateways, or keep fewer slots free with `dash pool set default --reserved CLASS=SLOTS`")
		for _, c := range b.stats().Classes {
			if want := map[messages.Class]string{messages.Low: never}[c.Class]; c.Class != messages.Medium && c.Starved != want {
				t.Errorf("%s is starved: %q, want %q", c.Class, c.Starved, want)
			}
		}
		g.demand(4)
		g.assign()
		second := b.submit(newTask(messages.Low, ""))
		why(second.ID, "reserved: the free slots, 3, are kept for other classes")
		for _, c := range b.stats().Classes {
			if c.Starved != "" {
				t.Errorf("%s is starved: %q", c.Class, c.Starved)
			}
		}
	})
}
