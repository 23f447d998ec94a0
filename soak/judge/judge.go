package judge

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/dash-fleet/dash/actors/openclaw/openclawtest"
	"github.com/dash-fleet/dash/http/api"
)

// Rule names a promise.
type Rule string

// The promises that are checked. DESIGN.md says which faults excuse what.
const (
	RuleHistory  Rule = "history_complete"        // the event log has no hole and no repetition
	RuleLost     Rule = "accepted_is_kept"        // every 202 is a task, every key at most one
	RuleTerminal Rule = "one_terminal_state"      // every task ends, once per replay
	RuleChain    Rule = "states_follow"           // each event starts where the one before ended
	RuleTruth    Rule = "state_is_true"           // list, log and client tell the same
	RuleResult   Rule = "result_is_the_run's"     // a recorded result is what a run of this task produced, once
	RuleOrder    Rule = "strict_order"            // no claim while a smaller eligible task was queued
	RuleFrames   Rule = "frames_follow_claims"    // a gateway gets runs in the order of their claims
	RuleSlots    Rule = "in_flight_within_window" // claims never exceed a gateway's slots or the pool's cap
	RuleSession  Rule = "one_run_per_session"     // a session has at most one task at a gateway
	RuleTwice    Rule = "run_id_starts_once"      // a run id starts once in all lives of all gateways
	RuleClaimed  Rule = "runs_are_claimed"        // nothing runs that was not claimed; cancelled before claim never starts
	RuleSecond   Rule = "no_second_execution"     // a task runs again only for a reason the log names
	RuleRest     Rule = "counters_true_at_rest"   // depth and load agree with the tasks
)

// Rules lists all promises.
var Rules = []Rule{RuleHistory, RuleLost, RuleTerminal, RuleChain, RuleTruth, RuleResult, RuleOrder, RuleFrames, RuleSlots,
	RuleSession, RuleTwice, RuleClaimed, RuleSecond, RuleRest}

// Finding is a broken promise.
type Finding struct {
	Rule    Rule   `json:"rule"`
	Subject string `json:"subject"` // task, gateway, session or key
	Seq     int64  `json:"seq,omitempty"`
	Detail  string `json:"detail"`
}

func (f Finding) String() string {
	if f.Seq == 0 {
		return fmt.Sprintf("%s: %s: %s", f.Rule, f.Subject, f.Detail)
	}
	return fmt.Sprintf("%s: %s at event %d: %s", f.Rule, f.Subject, f.Seq, f.Detail)
}

// maxKept bounds the findings that are kept in words, per rule.
const maxKept = 20

// Verdict is what the judge found. Broken counts findings by rule, Findings
// holds the first 20 of each rule in words.
type Verdict struct {
	Findings []Finding    `json:"findings"`
	Broken   map[Rule]int `json:"broken"`
	Counts   Counts       `json:"counts"`
}

// Counts say how much was judged, and what is lawful but worth knowing.
type Counts struct {
	Submits  int `json:"submits"`
	Accepted int `json:"accepted"`
	Refused  int `json:"refused"`
	Unknown  int `json:"unknown"` // no answer: absent or exactly one task
	// UnknownKept are unknown submits that became a task.
	UnknownKept int            `json:"unknown_kept"`
	Events      int            `json:"events"`
	Claims      int            `json:"claims"`
	Started     int            `json:"started"`
	States      map[string]int `json:"states"`
	// Reruns are runs that a gateway began by itself after its crash.
	Reruns int `json:"reruns"`
	// Again are executions after one whose outcome was lost with its gateway.
	Again int `json:"again"`
	// PeakInFlight is the most tasks that were claimed at once.
	PeakInFlight int `json:"peak_in_flight"`
	// OrderChecked are claims whose order was checked; pools with aging or
	// reserved slots are left out.
	OrderChecked int `json:"order_checked"`
	// BehindInLog are claims that stand in the log behind a smaller task of
	// which the pool's owner could not know yet.
	BehindInLog   int `json:"behind_in_log"`
	FramesChecked int `json:"frames_checked"`
	FramesExcused int `json:"frames_excused"` // re-sent after a fault
}

// OK reports whether every promise was kept.
func (v *Verdict) OK() bool { return len(v.Broken) == 0 }

// Err is nil when every promise was kept, else an error that tells the first findings.
func (v *Verdict) Err() error {
	if v.OK() {
		return nil
	}
	var b strings.Builder
	for _, r := range Rules {
		if n := v.Broken[r]; n > 0 {
			fmt.Fprintf(&b, "\n%s broken %d times", r, n)
			shown := 0
			for _, f := range v.Findings {
				if f.Rule == r && shown < 5 {
					fmt.Fprintf(&b, "\n  %s", f)
					shown++
				}
			}
		}
	}
	return fmt.Errorf("the judge found broken promises:%s", b.String())
}

// court is the state of one judgement.
type court struct {
	h     *History
	v     *Verdict
	tasks map[string]*story
	runs  map[string]*run
	// answered are session keys in which a gateway's own re-run has finished.
	answered map[string]bool
	// gaveUp counts, by session key, interrupted turns that a gateway will not
	// run again by itself: Dash then sends the same run once more.
	gaveUp map[string]int
	// stopped counts, by session key, a gateway's own re-runs that were aborted.
	stopped map[string]int
	keys    map[string][]string // task ids by key
}

// story is all that is known of one task.
type story struct {
	id     string
	last   *api.Task // nil: not listed
	events []*Event
	claims map[int64]*Event
}

// run is all that the simulators wrote of one run id.
type run struct {
	id       string
	lines    []*openclawtest.Line
	started  int
	accepted int // index of the first accepted line in History.Lines, -1: none
	at       time.Time
}

func (r *run) has(event string) bool {
	return slices.ContainsFunc(r.lines, func(l *openclawtest.Line) bool { return l.Event == event })
}

// Judge checks every rule.
func Judge(h *History) *Verdict {
	c := &court{
		h: h, tasks: map[string]*story{}, runs: map[string]*run{}, answered: map[string]bool{}, gaveUp: map[string]int{}, stopped: map[string]int{}, keys: map[string][]string{},
		v: &Verdict{Broken: map[Rule]int{}, Counts: Counts{Submits: len(h.Submits), Events: len(h.Events), States: map[string]int{}}},
	}
	c.collect()
	c.checkHistory()
	c.checkSubmits()
	c.checkStories()
	c.checkResults()
	c.checkOrder()
	c.checkFrames()
	c.checkLoad()
	c.checkRuns()
	c.checkRest()
	return c.v
}

func (c *court) find(r Rule, subject string, seq int64, format string, args ...any) {
	c.v.Broken[r]++
	if c.v.Broken[r] <= maxKept {
		c.v.Findings = append(c.v.Findings, Finding{Rule: r, Subject: subject, Seq: seq, Detail: fmt.Sprintf(format, args...)})
	}
}

func (c *court) story(id string) *story {
	s := c.tasks[id]
	if s == nil {
		s = &story{id: id, claims: map[int64]*Event{}}
		c.tasks[id] = s
	}
	return s
}

func (c *court) collect() {
	for i := range c.h.Tasks {
		t := &c.h.Tasks[i]
		c.story(t.Id).last = t
		c.v.Counts.States[string(t.State)]++
		if key := t.Labels[KeyLabel]; key != "" {
			c.keys[key] = append(c.keys[key], t.Id)
		}
	}
	for i := range c.h.Events {
		e := &c.h.Events[i]
		if e.Type != "task.state" {
			continue
		}
		s := c.story(e.ID)
		s.events = append(s.events, e)
		if e.State == "claimed" && s.claims[e.Claim] == nil {
			s.claims[e.Claim] = e
			c.v.Counts.Claims++
		}
	}
	for i := range c.h.Lines {
		l := &c.h.Lines[i]
		if l.Event == openclawtest.LogGaveUp {
			c.gaveUp[l.Session]++
			continue
		}
		if _, _, own := splitRun(l.RunID); !own && l.Event == openclawtest.LogAborted {
			c.stopped[l.Session]++
		}
		r := c.runs[l.RunID]
		if r == nil {
			r = &run{id: l.RunID, accepted: -1}
			c.runs[l.RunID] = r
		}
		r.lines = append(r.lines, l)
		switch {
		case l.Event == openclawtest.LogAccepted && r.accepted < 0:
			r.accepted, r.at = i, l.Time
		case l.Event == openclawtest.LogStarted:
			r.started++
			c.v.Counts.Started++
		}
	}
}

// ids are the known tasks in the order of their ids, so that a verdict is the
// same for the same history.
func (c *court) ids() []*story {
	list := make([]*story, 0, len(c.tasks))
	for _, s := range c.tasks {
		list = append(list, s)
	}
	slices.SortFunc(list, func(a, b *story) int { return cmp.Compare(a.id, b.id) })
	return list
}

// splitRun takes `<task>.<claim>` apart; ok is false for a gateway's own id.
func splitRun(id string) (task string, claim int64, ok bool) {
	i := strings.LastIndexByte(id, '.')
	if i < 0 {
		return "", 0, false
	}
	if _, err := fmt.Sscanf(id[i+1:], "%d", &claim); err != nil {
		return "", 0, false
	}
	return id[:i], claim, true
}

func terminal(state string) bool {
	switch api.TaskState(state) {
	case api.TaskStateSucceeded, api.TaskStateDeadLetter, api.TaskStateCancelled, api.TaskStateExpired:
		return true
	}
	return false
}

func atGateway(state string) bool {
	switch state {
	case "claimed", "running", "recovering", "cancelling":
		return true
	}
	return false
}
