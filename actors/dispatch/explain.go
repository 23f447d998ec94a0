package dispatch

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/messages/next"
)

// explainAll answers for the tasks that something keeps, unless nobody waits any
// longer: questions that could not be answered in time do not pile up.
func (b *broker) explainAll(m Explain) {
	if !m.Until.IsZero() && b.now.After(m.Until) {
		return
	}
	out := make(map[string]Explanation, len(m.Tasks))
	same := map[*bucket]Explanation{}
	for _, t := range m.Tasks {
		if x := b.explain(t, same); x != (Explanation{}) {
			out[t.ID] = x
		}
	}
	reply(m.Reply, out)
}

func waits(code messages.WaitingCode, format string, args ...any) Explanation {
	return Explanation{Code: code, Reason: fmt.Sprintf(format, args...)}
}

// explain says what keeps a task that waits, or that is out of reach. A reason
// that will not go away by itself comes with what to do. same is what was found
// of buckets before: a list looks at all gateways once for each, not once for each task.
func (b *broker) explain(t TaskRef, same map[*bucket]Explanation) Explanation {
	e := b.tasks[t.ID]
	switch {
	case e == nil || t.Tenant != "" && e.row.Tenant != t.Tenant:
		return Explanation{}
	case e.row.State.AtGateway():
		return b.outOfReach(&e.row)
	case !e.row.State.Waiting():
		return Explanation{}
	}
	switch e.row.State {
	case messages.RetryWait:
		return retryReason(&e.row)
	case messages.Scheduled:
		return waits(messages.WaitsDue, "it is due at %s", e.row.DueAt.UTC().Format(time.RFC3339))
	}
	if x := b.behind(e); x != (Explanation{}) || e.item.lane == nil {
		return x
	}
	k := e.item.lane.bucket
	x, known := same[k]
	if !known {
		if x = b.unserved(k, messages.SessionArgument(e.row.Tenant, e.row.Session)); k.key.At == "" { // else it names the session
			same[k] = x
		}
	}
	if x != (Explanation{}) {
		return x
	}
	if most := b.arb.limits.MaxRunning; most > 0 && b.arb.flying >= most {
		return waits(messages.WaitsCap, "the pool runs as many tasks as it may at once, %d", most)
	}
	if why := b.starved(e.item.Class); why != "" {
		return waits(messages.WaitsReserved, "%s: "+next.AddOrReserveLess, why, b.pool.ID)
	}
	if n := b.arb.kept(e.item.Class); n > 0 {
		return waits(messages.WaitsReserved, "reserved: the free slots, %d, are kept for other classes", n)
	}
	return Explanation{}
}

// outOfReach says that the gateway which has the task cannot be reached, and
// when the pool takes the task back.
func (b *broker) outOfReach(t *messages.Task) Explanation {
	g := b.gates[t.Gateway]
	if g == nil || g.gone || g.awaySince(b.now).IsZero() {
		return Explanation{}
	}
	return waits(messages.WaitsAway, "its gateway %s cannot be reached; if it stays away, the pool takes the task back after %s: "+next.LookAtGateways,
		t.Gateway, g.awaySince(b.now).Add(b.pool.Away()).UTC().Format(time.RFC3339))
}

// behind says what of its session a task waits for.
func (b *broker) behind(e *entry) Explanation {
	if blocker := b.arb.Blocker(&e.item); blocker != nil {
		x := waits(messages.WaitsBlocked, "an earlier task of the same session has not ended")
		if blocker.phase == Flying {
			x.Code = messages.WaitsSessionBusy
		}
		x.BlockedBy = blocker.ID
		return x
	}
	s := b.sessions[e.item.Session]
	if s == nil || !s.known {
		return Explanation{}
	}
	code := messages.WaitsSessionBusy
	switch s.row.State {
	case messages.SessionIdle, messages.SessionBusy:
		return Explanation{}
	case messages.SessionParked:
		code = messages.WaitsSessionParked
	case messages.SessionSuspended:
		code = messages.WaitsAway
	}
	return waits(code, "its session is %s", s.row.State)
}

// unserved says why no gateway takes the tasks of a bucket now, to one of that session.
func (b *broker) unserved(k *bucket, session string) Explanation {
	if len(k.gateways) == 0 {
		if why := b.pausedFor(k.key); why != "" {
			return Explanation{Code: messages.WaitsPausedProvider, Reason: why}
		}
		return Explanation{Code: messages.WaitsNoGateway, Reason: b.misfit(k.key, session)}
	}
	if slices.ContainsFunc(k.gateways, func(g *gateway) bool { return g.Window > 0 }) {
		if k.free == 0 {
			return waits(messages.WaitsWindow, "every gateway that fits is busy")
		}
		return Explanation{}
	}
	var away, draining bool
	for _, g := range k.gateways {
		switch gate := b.gates[g.ID]; {
		case gate != nil && gate.draining:
			draining = true
		case gate == nil || !gate.awaySince(b.now).IsZero():
			away = true
		default:
			return waits(messages.WaitsWindow, "no gateway that fits takes work now: "+next.LookAtGateways)
		}
	}
	switch {
	case draining && away:
		return waits(messages.WaitsAway, "the gateways that fit are drained or cannot be reached: "+next.LookAtGateways)
	case draining:
		return waits(messages.WaitsDraining, "every gateway that fits is drained: "+next.ResumeOne)
	}
	return waits(messages.WaitsAway, "no gateway that fits can be reached: "+next.LookAtGateways)
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
func retryReason(t *messages.Task) Explanation {
	at := t.DueAt.UTC().Format(time.RFC3339)
	if n := t.Error.GetUncalled(); n > 0 {
		return waits(messages.WaitsPausedProvider, "the gateway did not ask the model (%s), refusal %d in a row; this used up no attempt, and it is tried again at %s", t.Error.GetMessage(), n, at)
	}
	return waits(messages.WaitsRetry, "attempt %d of %d failed (%s: %s); it is tried again at %s", t.Attempt, max(1, t.Spec.GetMaxAttempts()), t.Error.GetCode(), t.Error.GetMessage(), at)
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
func (b *broker) misfit(k bucketKey, session string) string {
	var known []*gateway
	for _, g := range b.arb.order {
		if gate := b.gates[g.ID]; gate != nil && gate.pid != nil && !gate.gone {
			known = append(known, g)
		}
	}
	if len(known) == 0 {
		return "the pool " + b.pool.ID + " has no gateway: " + fmt.Sprintf(next.AddGatewayToPool, b.pool.ID, b.pool.Tenant)
	}
	if k.At != "" {
		return "its session is at gateway " + k.At + ", which does not fit what the task requires: " + fmt.Sprintf(next.MoveSession, session)
	}
	lacks := func(what string) string {
		return "no gateway of the pool " + b.pool.ID + " " + what + ": " + next.AddFittingGateway
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
