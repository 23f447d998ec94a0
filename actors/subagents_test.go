package actors_test

import (
	"strings"
	"testing"
	"time"

	"github.com/dash-fleet/dash/actors/dispatch"
	"github.com/dash-fleet/dash/messages"
)

// TestATaskWaitsForItsSubAgents: what they find is in its result, also when the
// connection was lost meanwhile, and while they work its row says so.
func TestATaskWaitsForItsSubAgents(t *testing.T) {
	t.Parallel()
	b := start(t, 1, 2, time.Millisecond)
	for _, lost := range []bool{false, true} {
		task := b.submitTo("", "ask another [[spawn=look it up {{delay=1500}}{{reply=found it}}]]", 1)
		b.until("the task says what it waits for", 10*time.Second, func() bool {
			row := b.row(task.ID)
			code, words := b.feed.TroubleOf(row.ID, row.Claim)
			return row.State == messages.Running && code == messages.WaitsSubAgents && strings.Contains(words, "one of its sub-agents is at work")
		})
		if lost {
			b.cut()
		}
		task = b.wait(task.ID)
		answer, late, _ := strings.Cut(task.Result.GetText(), "\n\n")
		if task.State != messages.Succeeded || !strings.HasPrefix(answer, "ECHO(1): ") || late != "found it" || task.Result.GetUnfinishedSubAgents() != 0 {
			t.Errorf("connection lost %v: %s %v", lost, task.State, task.Result)
		}
		if task.Attempt != 1 || task.Claim != 1 {
			t.Errorf("connection lost %v: attempt %d, claim %d", lost, task.Attempt, task.Claim)
		}
	}
}

// TestACancelStopsSubAgents: the answer stays, and the result says what it lacks.
func TestACancelStopsSubAgents(t *testing.T) {
	t.Parallel()
	b := start(t, 1, 2, time.Millisecond)
	task := b.submitTo("", "ask another [[spawn=take your time {{delay=3600000}}]]", 1)
	b.until("the sub-agent is at work", 10*time.Second, func() bool {
		row := b.row(task.ID)
		code, _ := b.feed.TroubleOf(row.ID, row.Claim)
		return code != ""
	})
	pid, _ := b.node.Pool(messages.DefaultPool)
	reply := make(chan dispatch.TaskReply, 1)
	b.node.Root().Send(pid, dispatch.Cancel{Tenant: messages.DefaultTenant, Task: task.ID, Reply: reply})
	if r := <-reply; r.Err != nil {
		t.Fatal(r.Err)
	}
	task = b.wait(task.ID)
	if task.State != messages.Succeeded || task.Result.GetUnfinishedSubAgents() != 1 {
		t.Errorf("%s %v", task.State, task.Result)
	}
}
