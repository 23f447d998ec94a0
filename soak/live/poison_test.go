//go:build live && linux

package live

import (
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/dash-fleet/dash/actors/openclaw/fakemodel"
	"github.com/dash-fleet/dash/http/api"
)

// subAgents: a task ends with the agents that its run has started, and its
// result has what they brought.
func subAgents(t *testing.T, f *fleet) {
	task := f.once("sub-agents-1 [[spawn=look it up {{delay=4000}}{{reply=found it}}]]", "")
	f.reason(task.Id, "one of its sub-agents is at work")
	task = f.succeeded(task.Id, turnLimit)
	if r := task.Result; !strings.HasPrefix(r.Text, "ECHO(1): ") || !strings.HasSuffix(r.Text, "\n\nfound it") || r.UnfinishedSubAgents != 0 {
		t.Errorf("result %+v", r)
	}
}

// TestLivePoison: a task that kills its gateway whenever the model is asked for
// it is a dead letter after the third death, the last of which it had to itself;
// its neighbour in the other slot succeeds. A run's deadline counts over a restart.
func TestLivePoison(t *testing.T) {
	const home = "gw-1"
	model, err := fakemodel.Start(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(model.Close)
	f := &fleet{node: newNode(t), model: model}
	f.start()
	_, err = f.client.CreateGateway(t.Context(), api.CreateGateway{
		Id: home, MaxConcurrency: ptr(2), Managed: &api.CreateManaged{Config: ptr(provider(f.model.URL(), fakemodel.Model))},
	})
	if err != nil {
		t.Fatal(err)
	}
	f.awaitState(home, bootLimit, api.GatewayStateReady, api.GatewayStateDegraded)
	f.dash("pool", "set", "default", "--away", "600") // a boot on a busy machine takes minutes
	began := time.Now()
	poison := f.once("poison-1 [[gate=never-poison]]", "")
	innocent := f.once("innocent-1 [[gate=innocent]]", "")
	f.asked("poison-1")
	f.asked("innocent-1")
	for kills := 1; ; kills++ {
		// By the third time it runs alone: its neighbour has ended, or waits.
		f.crash(home, poison.Id)
		if kills == 2 {
			f.model.Open("innocent")
		}
		if kills > 5 {
			t.Fatal("it is sent again for ever")
		}
		over := false
		within(t, 2*bootLimit, "the poison to come again, or to end", func() string {
			now, err := f.client.GetTask(t.Context(), poison.Id, 0)
			if err != nil {
				return err.Error()
			}
			if over = now.FinishedAt != nil; over || now.State == api.TaskStateRunning && int(now.Deaths) == kills {
				return ""
			}
			return fmt.Sprintf("%s after %d deaths: %s", now.State, now.Deaths, value(now.WaitingReason))
		})
		if over {
			break
		}
	}
	poison, innocent = f.terminal(poison.Id, time.Minute), f.succeeded(innocent.Id, bootLimit)
	t.Logf("poison %s after %s with %d deaths and %d model calls: %v; innocent %s with %d deaths, %d calls", poison.State, time.Since(began).Round(time.Second),
		poison.Deaths, f.calls("poison-1"), poison.Error, innocent.State, innocent.Deaths, f.calls("innocent-1"))
	if e := poison.Error; poison.State != api.TaskStateDeadLetter || e == nil || e.Code != "gateway_crashed" || poison.Deaths != 3 {
		t.Errorf("poison: %s, %d deaths, %+v", poison.State, poison.Deaths, poison.Error)
	}
	if !strings.HasPrefix(innocent.Result.Text, "ECHO(") || innocent.Attempt != 1 {
		t.Errorf("innocent: attempt %d, %q", innocent.Attempt, innocent.Result.Text)
	}
	t.Run("Deadline", func(t *testing.T) { deadline(t, f.in(t), home) })
}

// deadline: what a run has used of it at one process counts at the next.
func deadline(t *testing.T, f *fleet, home string) {
	const limit, used = 60 * time.Second, 35 * time.Second
	f.awaitState(home, bootLimit, api.GatewayStateReady, api.GatewayStateDegraded)
	task, err := f.client.SubmitTask(t.Context(), api.SubmitTask{MaxAttempts: ptr(int32(1)), Priority: api.PriorityHigh,
		Input: api.SubmitInput{Message: "deadline-1 [[gate=never-deadline]]", TimeoutSeconds: ptr(int64(limit / time.Second))}})
	if err != nil {
		t.Fatal(err)
	}
	f.asked("deadline-1")
	first := time.Now()
	within(t, 2*used, "the first part of the deadline", func() string {
		if left := used - time.Since(first); left > 0 {
			return left.String()
		}
		return ""
	})
	calls := f.calls("deadline-1")
	f.crash(home, task.Id)
	var again time.Time
	within(t, 2*bootLimit, "the run to go on", func() string {
		if n := f.model.Stats(); n.Active == 0 {
			return "no model call"
		}
		again = time.Now()
		return ""
	})
	got := f.terminal(task.Id, 3*time.Minute)
	took := time.Since(again)
	t.Logf("%s %v, %s after the run went on, %d model calls before", got.State, got.Error, took.Round(time.Second), calls)
	// 25 s are left, and the slack: well below a deadline that begins anew.
	if got.State != api.TaskStateDeadLetter || got.Error.Code != "deadline_exceeded" || took > limit-5*time.Second {
		t.Errorf("%s %+v after %s", got.State, got.Error, took)
	}
}

// crash kills the process of a gateway as soon as a task runs there.
func (f *fleet) crash(gateway, task string) {
	f.t.Helper()
	within(f.t, turnLimit, "task "+task+" to run", func() string {
		now, err := f.client.GetTask(f.t.Context(), task, 0)
		if err != nil {
			return err.Error()
		}
		if now.State != api.TaskStateRunning {
			return string(now.State)
		}
		return ""
	})
	if err := syscall.Kill(value(f.gateway(gateway).Pid), syscall.SIGKILL); err != nil {
		f.t.Fatal(err)
	}
}
