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
// its neighbour in the other slot succeeds.
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
		t.Errorf("poison: %s, %d deaths, %+v, %+v", poison.State, poison.Deaths, poison.Error, poison.Result)
		for _, r := range f.model.Requests() {
			t.Logf("model call at %s of %d user texts, the last: %.600q", r.At.UTC().Format(time.StampMilli), r.Users, r.Last)
		}
	}
	if !strings.HasPrefix(innocent.Result.Text, "ECHO(") || innocent.Attempt != 1 {
		t.Errorf("innocent: attempt %d, %q", innocent.Attempt, innocent.Result.Text)
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
