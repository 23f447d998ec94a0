package gateway_test

import (
	"strings"
	"testing"

	"github.com/dash-fleet/dash/actors/gateway"
	"github.com/dash-fleet/dash/messages"
)

func TestBootsBelongToTheFirst(t *testing.T) {
	t.Parallel()
	b := gateway.NewBoots()
	claim := func(boot, gateway, tenant, want string) {
		t.Helper()
		if got := b.Claim(boot, gateway, tenant); got != want {
			t.Errorf("claim of %q by %s: %q, want %q", boot, gateway, got, want)
		}
	}
	claim("x", "a", "t", "")
	claim("x", "a", "t", "") // again
	claim("x", "b", "t", "the gateway a")
	claim("x", "c", "u", "another gateway") // a name of another tenant is not told
	claim("y", "b", "t", "")
	claim("x", "b", "t", "the gateway a")
	claim("y", "c", "t", "the gateway b") // b kept what it had
	claim("z", "a", "t", "")              // a was restarted
	claim("x", "b", "t", "")
	b.Release("a")
	b.Release("a")
	claim("z", "c", "t", "")
	claim("", "a", "t", "")
	claim("", "b", "t", "") // unknown is nobody's
	claim("x", "a", "t", "the gateway b")
	var none *gateway.Boots
	none.Release("a")
	if got := none.Claim("x", "a", "t"); got != "" {
		t.Errorf("nobody knows anything, but %q", got)
	}
}

// TestOneProcessUnderTwoURLs: the newcomer is told whose process it reached,
// and may have it when the other one has gone.
func TestOneProcessUnderTwoURLs(t *testing.T) {
	t.Parallel()
	boots := gateway.NewBoots()
	boots.Claim("b1", "first", "default")
	var links []*link
	r := newRig(t, func(c *gateway.Config) {
		c.Boots = boots
		for range 2 {
			links = append(links, newLink("b1"))
		}
		c.Dial = dialer(links...)
	})
	s := r.until(messages.GatewayQuarantined).Status
	if !strings.Contains(s.Reason, "the gateway first") || !strings.Contains(s.NextStep, "remove one of the two") ||
		!strings.Contains(s.NextStep, "dash gateway restart gw") || s.BootID != "" {
		t.Errorf("status %+v", s)
	}
	<-links[0].done // it is not kept
	boots.Release("first")
	r.system.Root.Send(r.pid, gateway.Restart{})
	await(r, "a window", func(d messages.Demand) bool { return d.Window > 0 })
	if got := boots.Claim("b1", "third", "default"); got != "the gateway gw" {
		t.Errorf("the process is %q, want the gateway gw", got)
	}
	if err := r.system.Root.StopFuture(r.pid).Wait(); err != nil {
		t.Fatal(err)
	}
	if got := boots.Claim("b1", "third", "default"); got != "" {
		t.Errorf("the process is %q still", got)
	}
}
