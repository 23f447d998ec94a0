package dispatch

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/messages/next"
)

// explain says what keeps a waiting task. A reason that will not go away by
// itself comes with what to do.
func (b *broker) explain(m Explain) Explanation {
	e := b.tasks[m.Task]
	if e == nil || m.Tenant != "" && e.row.Tenant != m.Tenant || !e.row.State.Waiting() {
		return Explanation{}
	}
	if e.row.State == messages.RetryWait {
		return Explanation{Reason: retryReason(&e.row)}
	}
	if blocker := b.arb.Blocker(&e.item); blocker != nil {
		return Explanation{BlockedBy: blocker.ID, Reason: "an earlier task of the same session has not ended"}
	}
	if s := b.sessions[e.item.Session]; s != nil && s.known && s.row.State != messages.SessionIdle && s.row.State != messages.SessionBusy {
		return Explanation{Reason: "its session is " + s.row.State.String()}
	}
	l := e.item.lane
	if l == nil {
		return Explanation{}
	}
	switch k := l.bucket; {
	case len(k.gateways) == 0 && b.pausedFor(k.key) != "":
		return Explanation{Reason: b.pausedFor(k.key)}
	case len(k.gateways) == 0:
		return Explanation{Reason: b.misfit(k.key)}
	case !slices.ContainsFunc(k.gateways, func(g *gateway) bool { return g.Window > 0 }):
		return Explanation{Reason: "no gateway that fits takes work now: look at `dash gateway list`"}
	case k.free == 0:
		return Explanation{Reason: "every gateway that fits is busy"}
	case b.arb.limits.MaxRunning > 0 && b.arb.flying >= b.arb.limits.MaxRunning:
		return Explanation{Reason: fmt.Sprintf("the pool runs as many tasks as it may at once, %d", b.arb.limits.MaxRunning)}
	}
	if why := b.starved(e.item.Class); why != "" {
		return Explanation{Reason: why + ": " + fmt.Sprintf(next.AddOrReserveLess, b.pool.ID)}
	}
	if n := b.arb.kept(e.item.Class); n > 0 {
		return Explanation{Reason: fmt.Sprintf("reserved: the free slots, %d, are kept for other classes", n)}
	}
	return Explanation{}
}

// starved says why no task of a class can ever start with the gateways there
// are, because of slots reserved for others; empty: one can.
func (b *broker) starved(c messages.Class) string {
	slots, reserved, yes := b.arb.starves(c)
	if !yes {
		return ""
	}
	var each []string
	for _, d := range messages.Classes {
		if n := b.arb.limits.Reserved[d]; d != c && n > 0 {
			each = append(each, fmt.Sprintf("%s %d", d, n))
		}
	}
	return fmt.Sprintf("reserved: the pool has %d slots and keeps %d for other classes (%s), so that no %s task starts", slots, reserved, strings.Join(each, ", "), c)
}

// retryReason says why a task waits for another attempt, and until when.
func retryReason(t *messages.Task) string {
	at := t.DueAt.UTC().Format(time.RFC3339)
	if n := t.Error.GetUncalled(); n > 0 {
		return fmt.Sprintf("the gateway did not ask the model (%s), for the %d. time; this used up no attempt, and it is tried again at %s", t.Error.GetMessage(), n, at)
	}
	return fmt.Sprintf("attempt %d of %d failed (%s: %s); it is tried again at %s", t.Attempt, max(1, t.Spec.GetMaxAttempts()), t.Error.GetCode(), t.Error.GetMessage(), at)
}

// pausedFor says which gateway that would fit has switched the tasks' provider
// off: the one that asks it again first.
func (b *broker) pausedFor(k bucketKey) string {
	var first messages.Pause
	var at string
	for _, g := range b.arb.order {
		gate := b.gates[g.ID]
		if gate == nil || !k.suits(g) {
			continue
		}
		for _, p := range gate.paused {
			if p.Provider == k.Provider && b.now.Before(p.Until) && (at == "" || p.Until.Before(first.Until)) {
				first, at = p, g.ID
				if g.Tenant == "" {
					first.Why = "" // it may tell of another tenant's task or account
				}
			}
		}
	}
	if at == "" {
		return ""
	}
	return "gateway " + at + ": " + first.Words()
}

// misfit says what no gateway of the pool has.
func (b *broker) misfit(k bucketKey) string {
	var known []*gateway
	for _, g := range b.arb.order {
		if gate := b.gates[g.ID]; gate != nil && gate.pid != nil && !gate.gone {
			known = append(known, g)
		}
	}
	if len(known) == 0 {
		return "the pool " + b.pool.ID + " has no gateway: add one with `dash gateway add`"
	}
	if k.At != "" {
		return "its session is at gateway " + k.At + ", which does not fit what the task requires: move it with `dash session move`"
	}
	lacks := func(what string) string {
		return "no gateway of the pool " + b.pool.ID + " " + what + ": add one with `dash gateway add`"
	}
	known = slices.DeleteFunc(known, func(g *gateway) bool { return g.Tenant != "" && g.Tenant != k.Tenant })
	if len(known) == 0 {
		return lacks("serves tenant " + k.Tenant)
	}
	known = slices.DeleteFunc(known, func(g *gateway) bool { return k.Region != "" && g.Region != k.Region })
	if len(known) == 0 {
		return lacks("is in region " + k.Region)
	}
	return lacks("has the capabilities " + strings.ReplaceAll(k.Capabilities, ",", ", ") + " together")
}
