package judge

import (
	"slices"
	"strings"

	"github.com/dash-fleet/dash/actors/openclaw/openclawtest"
)

// checkHistory: without the whole log nothing else can be said.
func (c *court) checkHistory() {
	if c.h.Gaps > 0 {
		c.find(RuleHistory, "events", 0, "Dash told of %d holes in its log", c.h.Gaps)
	}
	for i := 1; i < len(c.h.Events); i++ {
		if a, b := c.h.Events[i-1].Seq, c.h.Events[i].Seq; b <= a {
			c.find(RuleHistory, "events", b, "came after event %d", a)
		}
	}
}

// checkSubmits: a 202 is kept, an unknown answer means absent or one task, and
// a key never names two.
func (c *court) checkSubmits() {
	n := &c.v.Counts
	for i := range c.h.Submits {
		s := &c.h.Submits[i]
		made := c.keys[s.Key]
		if len(made) > 1 {
			c.find(RuleLost, s.Key, 0, "one idempotency key made %d tasks: %s", len(made), strings.Join(made, ", "))
		}
		switch {
		case s.Task != "":
			n.Accepted++
			c.checkKept(s)
		case s.Refused != "":
			n.Refused++
			if len(made) > 0 {
				c.find(RuleLost, s.Key, 0, "was refused with %s and exists as %s", s.Refused, made[0])
			}
		default:
			n.Unknown++
			n.UnknownKept += min(1, len(made))
		}
	}
}

func (c *court) checkKept(s *Submit) {
	t := c.tasks[s.Task]
	switch {
	case t == nil || t.last == nil:
		c.find(RuleLost, s.Task, 0, "was answered with 202 and is not listed at the end (key %s)", s.Key)
	case t.last.Labels[KeyLabel] != s.Key:
		c.find(RuleLost, s.Task, 0, "belongs to key %s but was the answer to %s", t.last.Labels[KeyLabel], s.Key)
	case t.last.Input.Message != s.Message || t.last.Priority != s.Class || value(t.last.Session) != s.Session:
		c.find(RuleLost, s.Task, 0, "is not what key %s submitted", s.Key)
	case s.Seen != "" && s.Seen != t.last.State && t.last.Replays == 0:
		c.find(RuleTruth, s.Task, 0, "its client was told %s, the list says %s", s.Seen, t.last.State)
	}
}

// checkStories: the events of each task form one lawful life.
func (c *court) checkStories() {
	for _, s := range c.ids() {
		if len(s.events) == 0 {
			c.find(RuleHistory, s.id, 0, "is listed and has no event")
			continue
		}
		ends := c.checkChain(s)
		if s.last == nil {
			c.find(RuleTruth, s.id, 0, "has events and is not listed")
			continue
		}
		if last := s.events[len(s.events)-1].State; last != string(s.last.State) {
			c.find(RuleTruth, s.id, 0, "the last event says %s, the list says %s", last, s.last.State)
		}
		if want := int(s.last.Replays) + 1; terminal(string(s.last.State)) && ends != want {
			c.find(RuleTerminal, s.id, 0, "reached a terminal state %d times with %d replays", ends, s.last.Replays)
		}
		if !terminal(string(s.last.State)) {
			c.find(RuleTerminal, s.id, 0, "is still %s at the end", s.last.State)
		}
	}
}

// checkChain returns how often the task reached a terminal state.
func (c *court) checkChain(s *story) int {
	ends, claims := 0, int64(0)
	from := ""
	for _, e := range s.events {
		if e.From != from {
			c.find(RuleChain, s.id, e.Seq, "goes from %q to %s but was %q", e.From, e.State, from)
		}
		if terminal(from) && (from != "dead_letter" || e.State != "queued") {
			c.find(RuleTerminal, s.id, e.Seq, "left the terminal state %s for %s", from, e.State)
		}
		if e.State == "claimed" && from == "queued" {
			if e.Claim <= claims {
				c.find(RuleChain, s.id, e.Seq, "was assigned with claim %d after claim %d", e.Claim, claims)
			}
			claims = e.Claim
		}
		if terminal(e.State) {
			ends++
		}
		from = e.State
	}
	return ends
}

// checkResults: what is recorded is what a run of this very task produced.
func (c *court) checkResults() {
	own := map[string][]*run{} // runs by the message that they answered, for re-runs under a gateway's own id
	for _, r := range c.runs {
		if _, _, ok := splitRun(r.id); !ok {
			for _, l := range r.lines {
				if l.Event == openclawtest.LogFinished {
					own[l.Message] = append(own[l.Message], r)
				}
			}
		}
	}
	for _, s := range c.ids() {
		if s.last == nil {
			continue
		}
		ok := string(s.last.State) == "succeeded"
		if ok != (s.last.Result != nil) {
			c.find(RuleResult, s.id, 0, "is %s and result present is %t", s.last.State, s.last.Result != nil)
			continue
		}
		if !ok {
			continue
		}
		rerun := len(own[s.last.Input.Message]) > 0
		if !echoes(s.last.Result.Text, s.last.Input.Message, s.last.Session != nil) &&
			!(rerun && mentions(s.last.Result.Text, s.last.Input.Message)) {
			c.find(RuleResult, s.id, 0, "recorded %.80q for the message %.80q", s.last.Result.Text, s.last.Input.Message)
		}
		if !rerun && !c.produced(s) {
			c.find(RuleResult, s.id, 0, "succeeded, but no gateway finished a run of it")
		}
	}
}

func (c *court) produced(s *story) bool {
	for claim := range s.claims {
		if r := c.runs[runID(s.id, claim)]; r != nil && r.has(openclawtest.LogFinished) {
			return true
		}
	}
	return false
}

// echoes reports whether text is what the simulated model answers to message.
// In a session the text that Dash sent may begin with earlier turns.
func echoes(text, message string, session bool) bool {
	head, tail, ok := strings.Cut(text, "): ")
	if !ok || !strings.HasPrefix(head, "ECHO(") {
		return false
	}
	plain := strings.TrimSpace(unmark(message))
	plain = plain[max(0, len(plain)-openclawtest.EchoBytes):]
	if session {
		return strings.HasSuffix(tail, plain)
	}
	return tail == plain
}

// mentions reports whether message is a line of text. A gateway that runs a
// turn again by itself wraps its message in words of its own.
func mentions(text, message string) bool {
	return slices.Contains(strings.Split(text, "\n"), strings.TrimSpace(unmark(message)))
}

// unmark takes the simulator's [[...]] marks out of a message.
func unmark(message string) string {
	var b strings.Builder
	for {
		head, rest, ok := strings.Cut(message, "[[")
		b.WriteString(head)
		if !ok {
			return b.String()
		}
		if _, message, ok = strings.Cut(rest, "]]"); !ok {
			return b.String()
		}
	}
}
