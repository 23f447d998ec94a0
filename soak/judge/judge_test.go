package judge_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/dash-fleet/dash/actors/openclaw/openclawtest"
	"github.com/dash-fleet/dash/http/api"
	"github.com/dash-fleet/dash/soak/judge"
)

var epoch = time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)

type jsonRaw = json.RawMessage

// world writes a history as a faultless Dash would leave it.
type world struct {
	h   judge.History
	now time.Time
	seq int64
}

func newWorld() *world {
	return &world{now: epoch, h: judge.History{Slots: map[string]int{"g": 2}, Gateways: []api.Gateway{{Id: "g"}}}}
}

func ptr[T any](v T) *T { return &v }

func (w *world) tick() time.Time {
	w.now = w.now.Add(10 * time.Second) // longer than anybody may take to hear of anything
	return w.now
}

func (w *world) event(id, state, from string, claim int64) {
	w.seq++
	t := w.task(id)
	e := judge.Event{Seq: w.seq, Time: w.tick(), Seen: w.now, Type: "task.state", ID: id, Pool: "default", State: state, From: from,
		Class: t.Priority, QueueSeq: t.CreatedAt.Unix(), Claim: claim, Session: value(t.Session)}
	if claim > 0 {
		e.Gateway, e.RunID = "g", fmt.Sprintf("%s.%d", id, claim)
		t.Gateway, t.Claim = ptr("g"), claim
	}
	t.State = api.TaskState(state)
	w.h.Events = append(w.h.Events, e)
}

func value(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

func (w *world) task(id string) *api.Task {
	i := slices.IndexFunc(w.h.Tasks, func(t api.Task) bool { return t.Id == id })
	return &w.h.Tasks[i]
}

func (w *world) submit(id string, class api.Priority, session string) {
	t := api.Task{Id: id, Pool: "default", Priority: class, Labels: api.Labels{judge.KeyLabel: "key-" + id},
		Input: api.TaskInput{Message: "do " + id}, CreatedAt: time.Unix(w.seq+1, 0)}
	if session != "" {
		t.Session = &session
	}
	w.h.Tasks = append(w.h.Tasks, t)
	w.event(id, "queued", "", 0)
	w.h.Submits = append(w.h.Submits, judge.Submit{Key: "key-" + id, Class: class, Session: session, Message: "do " + id, Task: id,
		Sent: w.now, Answered: w.now})
}

func (w *world) line(run, task, event string) {
	w.h.Lines = append(w.h.Lines, openclawtest.Line{Time: w.tick(), Gateway: "g", RunID: run, Event: event, Message: "do " + task})
}

func (w *world) claim(id string, claim int64) {
	w.event(id, "claimed", "queued", claim)
	run := fmt.Sprintf("%s.%d", id, claim)
	w.line(run, id, "accepted")
	w.line(run, id, "started")
	w.event(id, "running", "claimed", claim)
}

func (w *world) succeed(id string, claim int64) {
	w.line(fmt.Sprintf("%s.%d", id, claim), id, "finished")
	w.event(id, "succeeded", "running", claim)
	w.task(id).Result = &api.TaskResult{Text: "ECHO(1): do " + id}
}

// lawful is a small life of everything: classes, a session, a retry, a cancel.
func lawful() *world {
	w := newWorld()
	for _, s := range []struct {
		id      string
		class   api.Priority
		session string
	}{{"low", "low", ""}, {"crit", "critical", ""}, {"s1", "high", "s"}, {"s2", "high", "s"}, {"gone", "medium", ""}} {
		w.submit(s.id, s.class, s.session)
	}
	w.event("gone", "cancelled", "queued", 0)
	w.task("gone").Cancel.RequestedAt = ptr(w.now.Add(-time.Second))
	w.claim("crit", 1)
	w.claim("s1", 1)
	w.line("crit.1", "crit", "failed")
	w.event("crit", "retry_wait", "running", 1)
	w.event("crit", "queued", "retry_wait", 1)
	w.claim("crit", 2)
	w.succeed("s1", 1)
	w.claim("s2", 1)
	w.succeed("crit", 2)
	w.claim("low", 1)
	w.succeed("s2", 1)
	w.succeed("low", 1)
	w.h.Queue = []api.QueueClass{{Pool: "default", Class: "low"}}
	return w
}

// TestGivenUpRunsAreRepeated: a gateway that gave up its own re-run gets the
// same run once more.
func TestGivenUpRunsAreRepeated(t *testing.T) {
	t.Parallel()
	for _, given := range []bool{false, true} {
		w := lawful()
		w.line("low.1", "low", "started")
		for i := range w.h.Lines {
			if l := &w.h.Lines[i]; l.RunID == "low.1" {
				l.Session = "agent:main:dash:default:task-low:1"
			}
		}
		if given {
			w.h.Lines = append(w.h.Lines, openclawtest.Line{Time: w.tick(), Gateway: "g", Session: "agent:main:dash:default:task-low:1", Event: openclawtest.LogGaveUp})
		}
		if err := judge.Judge(&w.h).Err(); (err == nil) != given {
			t.Errorf("given up: %v, verdict: %v", given, err)
		}
	}
}

func TestLawfulHistoryIsClean(t *testing.T) {
	t.Parallel()
	v := judge.Judge(&lawful().h)
	if err := v.Err(); err != nil {
		t.Fatal(err)
	}
	got := v.Counts
	want := judge.Counts{Submits: 5, Accepted: 5, Events: len(lawful().h.Events), Claims: 5, Started: 5, OrderChecked: 5, FramesChecked: 5,
		PeakInFlight: 2, States: map[string]int{"succeeded": 4, "cancelled": 1}}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("counts (-want +got):\n%s", d)
	}
}

// find returns the event of a task that enters a state for the n-th time.
func (w *world) find(id, state string) *judge.Event {
	i := slices.IndexFunc(w.h.Events, func(e judge.Event) bool { return e.ID == id && e.State == state })
	return &w.h.Events[i]
}

func (w *world) drop(id, state string) {
	w.h.Events = slices.DeleteFunc(w.h.Events, func(e judge.Event) bool { return e.ID == id && e.State == state })
}

// TestEachPromiseCanBeBroken doctors the lawful history in every way that the
// judge must see, and names the rule that must tell.
func TestEachPromiseCanBeBroken(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		rule judge.Rule
		do   func(*world)
	}{
		{"gap", judge.RuleHistory, func(w *world) { w.h.Gaps = 1 }},
		{"repeated event", judge.RuleHistory, func(w *world) { w.h.Events[1].Seq = w.h.Events[0].Seq }},
		{"task without events", judge.RuleHistory, func(w *world) {
			w.h.Events = slices.DeleteFunc(w.h.Events, func(e judge.Event) bool { return e.ID == "gone" })
		}},
		{"lost task", judge.RuleLost, func(w *world) {
			w.h.Tasks = slices.DeleteFunc(w.h.Tasks, func(t api.Task) bool { return t.Id == "low" })
		}},
		{"two tasks of one key", judge.RuleLost, func(w *world) { w.task("low").Labels[judge.KeyLabel] = "key-crit" }},
		{"refused and there", judge.RuleLost, func(w *world) { w.h.Submits[0].Task, w.h.Submits[0].Refused = "", "queue_full" }},
		{"another message", judge.RuleLost, func(w *world) { w.h.Submits[0].Message = "do something else" }},
		{"client told otherwise", judge.RuleTruth, func(w *world) { w.h.Submits[0].Seen = "cancelled" }},
		{"list differs from log", judge.RuleTruth, func(w *world) { w.task("low").State = "expired"; w.task("low").Result = nil }},
		{"never ended", judge.RuleTerminal, func(w *world) {
			w.drop("low", "succeeded")
			w.task("low").State = "running"
			w.task("low").Result = nil
		}},
		{"ended twice", judge.RuleTerminal, func(w *world) { w.event("low", "succeeded", "succeeded", 1) }},
		{"left a terminal state", judge.RuleTerminal, func(w *world) { w.event("gone", "queued", "cancelled", 0) }},
		{"replay not counted", judge.RuleTerminal, func(w *world) { w.task("low").Replays = 1 }},
		{"missing step", judge.RuleChain, func(w *world) { w.drop("low", "running") }},
		{"claim number used again", judge.RuleChain, func(w *world) {
			for i := range w.h.Events {
				if e := &w.h.Events[i]; e.ID == "crit" && e.Claim == 2 {
					e.Claim = 1
				}
			}
		}},
		{"foreign result", judge.RuleResult, func(w *world) { w.task("low").Result.Text = "ECHO(1): do crit" }},
		{"result of nobody", judge.RuleResult, func(w *world) {
			w.h.Lines = slices.DeleteFunc(w.h.Lines, func(l openclawtest.Line) bool { return l.RunID == "low.1" && l.Event == "finished" })
		}},
		{"success without result", judge.RuleResult, func(w *world) { w.task("low").Result = nil }},
		{"low before high", judge.RuleOrder, func(w *world) {
			w.find("crit", "claimed").ID, w.find("low", "claimed").ID = "low", "crit"
		}},
		{"later before earlier in one class", judge.RuleOrder, func(w *world) { *w = *fifoBroken() }},
		{"overtook a task that was put back", judge.RuleOrder, func(w *world) { *w = *overtakenRetry() }},
		{"overtook a task of an idle session", judge.RuleOrder, func(w *world) { *w = *overtakenSession() }},
		{"frames overtook", judge.RuleFrames, func(w *world) {
			i := slices.IndexFunc(w.h.Lines, func(l openclawtest.Line) bool { return l.RunID == "s1.1" && l.Event == "accepted" })
			l := w.h.Lines[i]
			w.h.Lines = append([]openclawtest.Line{l}, slices.Delete(w.h.Lines, i, i+1)...)
		}},
		{"above the slots", judge.RuleSlots, func(w *world) { w.h.Slots["g"] = 1 }},
		{"above the pool's cap", judge.RuleSlots, func(w *world) { w.h.Pools = []api.Pool{{Id: "default", MaxConcurrency: 1}} }},
		{"two turns of a session", judge.RuleSession, func(w *world) {
			w.find("low", "claimed").Session = "s"
		}},
		{"run id started twice", judge.RuleTwice, func(w *world) { w.line("low.1", "low", "started") }},
		{"cancelled and started", judge.RuleClaimed, func(w *world) { w.line("gone.1", "gone", "started") }},
		{"run of no claim", judge.RuleClaimed, func(w *world) { w.line("low.7", "low", "started") }},
		{"success repeated", judge.RuleSecond, func(w *world) { w.line("crit.1", "crit", "finished") }},
		{"re-run's answer repeated", judge.RuleSecond, func(w *world) {
			w.line("9b2f", "crit", "finished")
			for i := range w.h.Lines {
				if l := &w.h.Lines[i]; l.RunID == "crit.1" || l.RunID == "9b2f" {
					l.Session = "agent:main:dash:default:task-crit:1"
				}
			}
		}},
		{"taken back while it ran", judge.RuleSecond, func(w *world) {
			w.find("crit", "retry_wait").State = "queued"
		}},
		{"depth", judge.RuleRest, func(w *world) { w.h.Queue[0].Depth = 1 }},
		{"running", judge.RuleRest, func(w *world) { w.h.Queue[0].Running = 1 }},
		{"load", judge.RuleRest, func(w *world) { w.h.Gateways[0].Running = 1 }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := lawful()
			tt.do(w)
			v := judge.Judge(&w.h)
			if v.Broken[tt.rule] == 0 {
				t.Errorf("the judge did not see it; it found %v", v.Err())
			}
		})
	}
}

func fifoBroken() *world {
	w := newWorld()
	w.submit("first", "high", "")
	w.submit("second", "high", "")
	w.claim("second", 1)
	w.claim("first", 1)
	w.succeed("first", 1)
	w.succeed("second", 1)
	return w
}

func overtakenRetry() *world {
	w := newWorld()
	w.submit("low", "low", "")
	w.submit("high", "high", "")
	w.claim("high", 1)
	w.line("high.1", "high", "failed")
	w.event("high", "retry_wait", "running", 1)
	w.event("high", "queued", "retry_wait", 1)
	w.submit("later", "low", "") // its answer proves that the owner heard of the retry
	w.claim("low", 1)
	w.succeed("low", 1)
	w.claim("high", 2)
	w.succeed("high", 2)
	w.claim("later", 1)
	w.succeed("later", 1)
	return w
}

func overtakenSession() *world {
	w := newWorld()
	w.submit("turn", "high", "s")
	w.submit("low", "low", "")
	w.claim("low", 1)
	w.succeed("low", 1)
	w.claim("turn", 1)
	w.succeed("turn", 1)
	return w
}

// TestExcuses: what looks wrong and is lawful.
func TestExcuses(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		make func() *world
	}{
		{"smaller task whose session is busy", func() *world {
			w := newWorld()
			w.submit("s1", "high", "s")
			w.submit("s2", "high", "s")
			w.submit("low", "low", "")
			w.claim("s1", 1)
			w.claim("low", 1)
			w.succeed("s1", 1)
			w.claim("s2", 1)
			w.succeed("low", 1)
			w.succeed("s2", 1)
			return w
		}},
		{"smaller task that needs another gateway", func() *world {
			w := newWorld()
			w.submit("eu", "critical", "")
			w.task("eu").Requires.Region = ptr("eu")
			w.submit("low", "low", "")
			w.claim("low", 1)
			w.succeed("low", 1)
			w.claim("eu", 1)
			w.succeed("eu", 1)
			return w
		}},
		{"smaller task that is to be cancelled", func() *world {
			w := newWorld()
			w.submit("c", "critical", "")
			w.task("c").Cancel.RequestedAt = ptr(w.tick())
			w.submit("low", "low", "")
			w.claim("low", 1)
			w.succeed("low", 1)
			w.event("c", "cancelled", "queued", 0)
			return w
		}},
		{"decided before the smaller task of a session was answered", func() *world {
			w := newWorld()
			w.submit("first", "high", "s")
			w.submit("second", "high", "")
			w.claim("second", 1)
			w.claim("first", 1)
			w.succeed("first", 1)
			w.succeed("second", 1)
			w.h.Submits[0].Answered, w.h.Submits[1].Answered = w.now, w.now
			return w
		}},
		{"run again after its gateway was away", func() *world {
			w := newWorld()
			w.submit("a", "high", "")
			w.claim("a", 1)
			w.event("a", "queued", "running", 1)
			w.h.Events[len(w.h.Events)-1].Reason = "gateway_away"
			w.claim("a", 2)
			w.line("a.1", "a", "finished")
			w.succeed("a", 2)
			return w
		}},
		{"frame sent again after a fault", func() *world {
			w := newWorld()
			w.submit("a", "high", "")
			w.submit("b", "high", "")
			w.event("a", "claimed", "queued", 1)
			w.h.Faults = []judge.Fault{{Kind: "dash-kill", From: w.now.Add(time.Second), To: w.now.Add(2 * time.Second)}}
			w.claim("b", 1)
			w.line("a.1", "a", "accepted")
			w.line("a.1", "a", "started")
			w.event("a", "running", "claimed", 1)
			w.succeed("b", 1)
			w.succeed("a", 1)
			return w
		}},
		{"unknown answer, kept", func() *world {
			w := lawful()
			w.h.Submits[0].Task = ""
			return w
		}},
		{"unknown answer, absent", func() *world {
			w := lawful()
			w.h.Submits = append(w.h.Submits, judge.Submit{Key: "never", Class: "low", Message: "x"})
			return w
		}},
		{"replayed dead letter", func() *world {
			w := newWorld()
			w.submit("a", "high", "")
			w.claim("a", 1)
			w.line("a.1", "a", "failed")
			w.event("a", "dead_letter", "running", 1)
			w.event("a", "queued", "dead_letter", 1)
			w.task("a").Replays = 1
			w.claim("a", 2)
			w.succeed("a", 2)
			return w
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if err := judge.Judge(&tt.make().h).Err(); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestAnyOrderAgainstTheNaiveRule compares the order check with a full search
// over random histories of sessionless tasks.
func TestAnyOrderAgainstTheNaiveRule(t *testing.T) {
	t.Parallel()
	classes := []api.Priority{"critical", "high", "medium", "low"}
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld()
		w.h.Slots["g"] = 1 << 20
		var queued []*api.Task
		bad := 0
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			if len(queued) == 0 || rapid.Bool().Draw(t, "submit") {
				id := fmt.Sprintf("t%d", len(w.h.Tasks))
				w.h.Tasks = slices.Grow(w.h.Tasks, 100)
				w.submit(id, rapid.SampledFrom(classes).Draw(t, "class"), "")
				queued = append(queued, w.task(id))
				continue
			}
			i := rapid.IntRange(0, len(queued)-1).Draw(t, "pick")
			smaller := func(o *api.Task) bool {
				a, b := slices.Index(classes, o.Priority), slices.Index(classes, queued[i].Priority)
				return a < b || a == b && o.CreatedAt.Before(queued[i].CreatedAt)
			}
			if slices.ContainsFunc(queued, smaller) {
				bad++
			}
			w.claim(queued[i].Id, 1)
			queued = slices.Delete(queued, i, i+1)
		}
		v := judge.Judge(&w.h)
		if got := v.Broken[judge.RuleOrder]; got != bad {
			t.Fatalf("the judge found %d claims out of order, there are %d", got, bad)
		}
	})
}

func TestParseEvent(t *testing.T) {
	t.Parallel()
	data := []byte(`{"id":"t","tenant":"default","pool":"p","class":"high","queue_seq":7,"state":"running","from":"claimed","claim":2,"attempt":1,` +
		`"session":"s","gateway":"g","run_id":"t.2","reason":"accepted","error":null}`)
	raw := (*jsonRaw)(&data)
	e, ok, err := judge.ParseEvent(&api.EventMessage{Seq: ptr(int64(9)), Time: &epoch, Type: "task.state", Data: raw})
	want := judge.Event{Seq: 9, Time: epoch, Type: "task.state", ID: "t", Pool: "p", Session: "s", Gateway: "g", State: "running", From: "claimed",
		Reason: "accepted", RunID: "t.2", Class: "high", QueueSeq: 7, Claim: 2, Attempt: 1}
	if err != nil || !ok {
		t.Fatal(ok, err)
	}
	if d := cmp.Diff(want, e); d != "" {
		t.Error(d)
	}
	if _, ok, err := judge.ParseEvent(&api.EventMessage{Type: "delta"}); ok || err != nil {
		t.Error("a delta has no place in the log", ok, err)
	}
	broken := []byte(`{"id":7}`)
	if _, _, err := judge.ParseEvent(&api.EventMessage{Seq: ptr(int64(9)), Type: "task.state", Data: (*jsonRaw)(&broken)}); err == nil {
		t.Error("a broken event was accepted")
	}
}
