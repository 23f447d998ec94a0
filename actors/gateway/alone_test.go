package gateway_test

import (
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dash-fleet/dash/actors/gateway"
	"github.com/dash-fleet/dash/actors/openclaw"
	"github.com/dash-fleet/dash/messages"
)

// TestTaskThatKillsItsGateway: two deaths make three neighbours suspect; from
// then on each runs alone, the one under which the gateway dies again is a dead
// letter with the story, and the others succeed.
func TestTaskThatKillsItsGateway(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	running, most := map[string]int{}, map[string]int{}
	var links []*link
	for _, boot := range []string{"b1", "b2", "b3", "b4"} {
		l := newLink(boot)
		l.onAgent = func(q openclaw.AgentRequest, on func(openclaw.AgentAnswer)) {
			mu.Lock()
			running[boot]++
			most[boot] = max(most[boot], running[boot])
			mu.Unlock()
			on(openclaw.AgentAnswer{Kind: openclaw.AnswerAccepted, RunID: q.RunID})
			<-time.After(60 * time.Millisecond) // until RUNNING is written
			mu.Lock()
			running[boot]--
			mu.Unlock()
			switch {
			case boot == "b1": // it dies under all of them
			case strings.HasPrefix(q.RunID, "poison"):
				l.Close()
			default:
				on(openclaw.AgentAnswer{Kind: openclaw.AnswerFinal, RunID: q.RunID, Text: "done"})
			}
		}
		l.history = interrupted
		links = append(links, l)
	}
	r := newRig(t, func(c *gateway.Config) { c.Dial = dialer(links...) })
	await(r, "a window", open)
	ids := []string{"poison", "t2", "t3"}
	for _, id := range ids {
		r.claim(id, "")
	}
	r.allIn(ids, messages.Running)
	links[0].Close()
	r.allIn(ids, messages.Recovering)
	links[1].Close() // as if the gateway's own re-run had killed it
	await(r, "a window of one", func(d messages.Demand) bool { return d.BootID == "b3" && d.Window == 1 && len(d.Running) == 3 })
	if s := r.inspect(); !strings.Contains(s.Reduced, "alone") {
		t.Errorf("the gateway does not say why its window is small: %q", s.Reduced)
	}
	ends := map[string]messages.Task{}
	for range ids {
		e := await(r, "an end", func(*messages.Ended) bool { return true })
		ends[e.Task.ID] = e.Task
	}
	p := ends["poison"]
	if p.State != messages.DeadLetter || p.Error.GetCode() != string(messages.CodeGatewayCrashed) || len(p.Trials.GetDeaths()) != 3 || p.Attempt != 1 {
		t.Errorf("poison = %s %v, %v", p.State, p.Error, p.Trials)
	}
	if text := p.Error.GetMessage(); strings.Count(text, "gw at ") != 3 || !strings.Contains(text, "running alone") {
		t.Errorf("the story is %q", text)
	}
	for _, id := range ids[1:] {
		if e := ends[id]; e.State != messages.Succeeded || len(e.Trials.GetDeaths()) != 2 {
			t.Errorf("%s = %s %v, %v", id, e.State, e.Error, e.Trials)
		}
	}
	if most["b3"] > 1 || most["b4"] > 1 {
		t.Errorf("suspects ran together: %v", most)
	}
	await(r, "the whole window", func(d messages.Demand) bool { return d.Window == 4 && len(d.Running) == 0 })
}

// interrupted is the transcript of a throw-away session whose turn a crash cut.
func interrupted(key string) openclaw.History {
	task, _, _ := strings.Cut(key[strings.LastIndex(key, "task-")+len("task-"):], ":")
	return openclaw.History{Items: []openclaw.HistoryItem{{Role: "user", RunID: messages.RunID(task, 1), Text: "x"}}}
}

// allIn waits until the store has all tasks in a state.
func (r *rig) allIn(ids []string, want messages.TaskState) {
	r.t.Helper()
	limit := time.Now().Add(15 * time.Second)
	for _, id := range ids {
		for {
			task, err := r.store.Task(r.t.Context(), "default", id)
			if err != nil {
				r.t.Fatal(err)
			}
			if task.State == want {
				break
			}
			if time.Now().After(limit) {
				r.t.Fatalf("%s is %s, want %s", id, task.State, want)
			}
			<-time.After(2 * time.Millisecond)
		}
	}
}
