package judge

import (
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/dash-fleet/dash/actors/openclaw/openclawtest"
)

func runID(task string, claim int64) string { return task + "." + strconv.FormatInt(claim, 10) }

// checkFrames: per gateway the accepted lines follow the claims. A frame that
// had to be sent again after a fault of Dash or of that gateway may be late.
func (c *court) checkFrames() {
	claims := map[string][]*Event{}
	down := map[string][]time.Time{} // when a gateway's connection was not usable
	for i := range c.h.Events {
		switch e := &c.h.Events[i]; {
		case e.Type == "task.state" && e.State == "claimed" && c.tasks[e.ID].claims[e.Claim] == e:
			claims[e.Gateway] = append(claims[e.Gateway], e)
		case e.Type == "gateway.state" && e.State != "ready" && e.State != "degraded":
			down[e.ID] = append(down[e.ID], e.Time)
		}
	}
	for gateway, list := range claims {
		latest, who := -1, ""
		for _, e := range list {
			r := c.runs[runID(e.ID, e.Claim)]
			if r == nil || r.accepted < 0 {
				continue
			}
			if c.disturbed(gateway, e.Time, r.at, down[gateway]) {
				c.v.Counts.FramesExcused++
				continue
			}
			c.v.Counts.FramesChecked++
			if r.accepted < latest {
				c.find(RuleFrames, r.id, e.Seq, "reached %s before %s, which was claimed earlier", gateway, who)
				continue
			}
			latest, who = r.accepted, r.id
		}
	}
}

// disturbed reports whether a fault or a lost connection lies between two times.
func (c *court) disturbed(gateway string, from, to time.Time, down []time.Time) bool {
	for _, f := range c.h.Faults {
		if (f.Gateway == "" || f.Gateway == gateway) && !f.From.After(to) && !f.To.Before(from) {
			return true
		}
	}
	return slices.ContainsFunc(down, func(t time.Time) bool { return !t.Before(from) && !t.After(to) })
}

// checkLoad replays the log and counts what is at each gateway and session.
func (c *court) checkLoad() {
	type place struct{ gateway, session, pool string }
	at := map[string]place{}
	load, sessions, pools := map[string]int{}, map[string]int{}, map[string]int{}
	caps := map[string]int{}
	for _, p := range c.h.Pools {
		caps[p.Id] = p.MaxConcurrency
	}
	move := func(p place, n int) {
		load[p.gateway] += n
		pools[p.pool] += n
		if p.session != "" {
			sessions[p.session] += n
		}
	}
	for i := range c.h.Events {
		e := &c.h.Events[i]
		if e.Type != "task.state" {
			continue
		}
		old, was := at[e.ID]
		if was {
			move(old, -1)
			delete(at, e.ID)
		}
		if !atGateway(e.State) {
			continue
		}
		p := place{e.Gateway, e.Session, e.Pool}
		at[e.ID] = p
		move(p, 1)
		c.v.Counts.PeakInFlight = max(c.v.Counts.PeakInFlight, len(at))
		if was {
			continue
		}
		if slots, ok := c.h.Slots[p.gateway]; ok && load[p.gateway] > slots {
			c.find(RuleSlots, p.gateway, e.Seq, "holds %d tasks with %d slots", load[p.gateway], slots)
		}
		if n := caps[p.pool]; n > 0 && pools[p.pool] > n {
			c.find(RuleSlots, p.pool, e.Seq, "runs %d tasks, its cap is %d", pools[p.pool], n)
		}
		if p.session != "" && sessions[p.session] > 1 {
			c.find(RuleSession, p.session, e.Seq, "has %d tasks at gateways", sessions[p.session])
		}
	}
}

// checkRuns: what the gateways executed was claimed, started once, and again
// only for a reason.
func (c *court) checkRuns() {
	ids := make([]string, 0, len(c.runs))
	for id := range c.runs {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	for _, id := range ids {
		r := c.runs[id]
		task, claim, ok := splitRun(id)
		if !ok {
			c.v.Counts.Reruns += r.started
			c.reran(r)
			continue
		}
		if r.started > 1+c.sum(r, c.gaveUp)+min(c.sum(r, c.stopped), c.tasks[task].alone(claim)) {
			c.find(RuleTwice, id, 0, "started %d times", r.started)
		}
		s := c.tasks[task]
		if s == nil && claim == 0 {
			continue // claims begin at 1: a new process was warmed up
		}
		if s == nil || s.claims[claim] == nil {
			c.find(RuleClaimed, id, 0, "ran at %s and was never claimed", r.lines[0].Gateway)
		}
	}
	for _, s := range c.ids() {
		c.checkAgain(s)
	}
}

// alone is how often Dash said that it sends a claim again, alone at its
// gateway, after it has stopped what that ran by itself.
func (s *story) alone(claim int64) (n int) {
	if s == nil {
		return 0
	}
	for _, e := range s.events {
		if e.Claim == claim && e.State == "claimed" && e.Reason == "alone" {
			n++
		}
	}
	return n
}

// sum adds up what is counted for the sessions that r was sent in.
func (c *court) sum(r *run, counts map[string]int) (n int) {
	keys := map[string]bool{}
	for _, l := range r.lines {
		if !keys[l.Session] {
			keys[l.Session] = true
			n += counts[l.Session]
		}
	}
	return n
}

// reran notes the session in which a gateway's own run has finished.
func (c *court) reran(r *run) {
	if r.has(openclawtest.LogFinished) {
		c.answered[r.lines[0].Session] = true
	}
}

// answeredAgain reports whether the gateway's own re-run of before has finished.
// Only a throw-away session tells: in others it may have been another task's.
func (c *court) answeredAgain(s *story, before *run) bool {
	key := before.lines[0].Session
	return strings.Contains(key, ":task-"+s.id+":") && c.answered[key]
}

// checkAgain looks at tasks of which more than one claim was executed.
func (c *court) checkAgain(s *story) {
	if len(s.claims) < 2 {
		return
	}
	var before *run
	for _, e := range s.events {
		if s.claims[e.Claim] != e {
			continue
		}
		r := c.runs[runID(s.id, e.Claim)]
		if r == nil || r.started == 0 {
			continue
		}
		if before != nil {
			c.checkReason(s, before, e)
		}
		before = r
	}
}

// checkReason: the log must name why a task ran again, and a run that ended
// well is repeated only when its gateway took the outcome with it.
func (c *court) checkReason(s *story, before *run, again *Event) {
	_, claim, _ := splitRun(before.id)
	left := ""
	for _, e := range s.events {
		if e.Claim == claim && e.From != "" && atGateway(e.From) && !atGateway(e.State) {
			left = e.State + " " + e.Reason
		}
	}
	// After a deadline nobody waits for the gateway's own re-run.
	finished := before.has(openclawtest.LogFinished) || (c.answeredAgain(s, before) && !strings.HasPrefix(left, "retry_wait deadline"))
	switch {
	case strings.HasPrefix(left, "queued gateway_away"), strings.HasPrefix(left, "held"), strings.HasPrefix(left, "queued move"):
		c.v.Counts.Again++
	case finished:
		c.find(RuleSecond, s.id, again.Seq, "ran again as claim %d although %s or the gateway's own re-run of it had finished (%s)", again.Claim, before.id, left)
	case strings.HasPrefix(left, "retry_wait"), strings.HasPrefix(left, "dead_letter"):
	default:
		c.find(RuleSecond, s.id, again.Seq, "ran again as claim %d although %s had started and was left as %q", again.Claim, before.id, left)
	}
}
