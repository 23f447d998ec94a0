//go:build live && linux

package live

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/dash-fleet/dash/actors/openclaw/fakemodel"
	"github.com/dash-fleet/dash/http/api"
)

// fleet is the node, its three gateways with one slot each, and their model.
type fleet struct {
	*node
	model *fakemodel.Server
}

var gateways = []string{"gw-1", "gw-2", "gw-3"}

// turnLimit bounds one turn on a busy machine, its model call left out.
const turnLimit = 2 * time.Minute

// TestLiveEndToEnd goes through a fleet's life; each part leaves the fleet as
// it found it.
func TestLiveEndToEnd(t *testing.T) {
	model, err := fakemodel.Start(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(model.Close)
	f := &fleet{node: newNode(t), model: model}
	f.start()
	defer f.in(t)
	for _, part := range []struct {
		name string
		run  func(*testing.T, *fleet)
	}{
		{"Boot", boot}, {"Order", order}, {"Stream", stream}, {"Cancel", cancel}, {"Session", session}, {"Endings", endings}, {"SubAgents", subAgents},
		{"Drain", drain}, // while the gateways are children: their exit codes are known then
		{"DashKilled", dashKilled}, {"DashStopped", dashStopped}, {"GatewayKilled", gatewayKilled}, {"End", end},
	} {
		began := time.Now()
		if !t.Run(part.name, func(t *testing.T) { part.run(t, f.in(t)) }) && part.name == "Boot" {
			break
		}
		t.Logf("OpenClaw %s: %s took %s", version, part.name, time.Since(began).Round(100*time.Millisecond))
	}
}

// in is the fleet with another test's t.
func (f *fleet) in(t *testing.T) *fleet {
	f.node.t = t
	return f
}

// boot: Dash starts three gateways by itself.
func boot(t *testing.T, f *fleet) {
	for _, id := range gateways {
		_, err := f.client.CreateGateway(t.Context(), api.CreateGateway{
			Id: id, MaxConcurrency: ptr(1), Managed: &api.CreateManaged{Config: ptr(provider(f.model.URL(), fakemodel.Model))},
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	began := time.Now()
	for _, id := range gateways {
		g := f.awaitState(id, bootLimit, api.GatewayStateReady)
		t.Logf("%s is ready %s after the first was registered: pid %d, OpenClaw %s, window %d", id,
			time.Since(began).Round(time.Second), value(g.Pid), value(g.OpenclawVersion), g.Window)
		if value(g.OpenclawVersion) != version || !alive(value(g.Pid)) || g.Window != 1 || value(g.BootId) == "" {
			t.Errorf("gateway = %+v", g)
		}
	}
	// Each has had its first turn before it got work.
	if calls := f.model.Requests(); len(calls) != len(gateways) {
		t.Errorf("the model was asked %d times while %d gateways warmed up: %v", len(calls), len(gateways), calls)
	}
}

func (f *fleet) submit(class api.Priority, message string) api.Task {
	f.t.Helper()
	task, err := f.client.SubmitTask(f.t.Context(), api.SubmitTask{Priority: class, Input: api.SubmitInput{Message: message, TimeoutSeconds: ptr(int64(600))}})
	if err != nil {
		f.t.Fatal(err)
	}
	return *task
}

// calls counts the model calls whose last user text holds word.
func (f *fleet) calls(word string) int {
	n := 0
	for _, r := range f.model.Requests() {
		if strings.Contains(r.Last, word) {
			n++
		}
	}
	return n
}

// asked waits for the first model call of a task.
func (f *fleet) asked(word string) {
	f.t.Helper()
	within(f.t, turnLimit, "the model call of "+word, func() string {
		if f.calls(word) > 0 {
			return ""
		}
		return fmt.Sprint(f.model.Stats())
	})
}

// terminal waits for a task's end.
func (f *fleet) terminal(id string, limit time.Duration) api.Task {
	f.t.Helper()
	var task *api.Task
	within(f.t, limit, "the end of task "+id, func() string {
		var err error
		if task, err = f.client.GetTask(f.t.Context(), id, 5*time.Second); err != nil {
			return err.Error()
		}
		if task.FinishedAt == nil {
			return string(task.State)
		}
		return ""
	})
	return *task
}

func (f *fleet) succeeded(id string, limit time.Duration) api.Task {
	f.t.Helper()
	task := f.terminal(id, limit)
	if task.State != api.TaskStateSucceeded || task.Result == nil {
		f.t.Fatalf("task %s is %s: %+v", id, task.State, task.Error)
	}
	return task
}

// history is a task's states as the event log has them.
func (f *fleet) history(id string) []string {
	f.t.Helper()
	ctx, cancel := context.WithTimeout(f.t.Context(), 20*time.Second)
	defer cancel()
	var states []string
	for m, err := range f.client.StreamEvents(ctx, []string{"task." + id + ".*"}, 0) {
		if err != nil {
			f.t.Fatal(err)
		}
		if m.Type != "task.state" || m.Data == nil {
			continue
		}
		var d struct {
			State  string         `json:"state"`
			Reason string         `json:"reason"`
			Error  *api.TaskError `json:"error"`
		}
		if err := json.Unmarshal(*m.Data, &d); err != nil {
			f.t.Fatal(err)
		}
		state := d.State
		if d.Reason != "" {
			state += fmt.Sprintf(" (%s)", d.Reason)
		}
		if d.Error != nil {
			state += fmt.Sprintf(" [%s: %s]", d.Error.Code, d.Error.Message)
		}
		states = append(states, state)
		if slices.Contains([]string{"succeeded", "cancelled", "dead_letter", "expired"}, d.State) {
			cancel()
			break
		}
	}
	return states
}

// order: one slot per gateway, all held; twelve tasks of mixed classes wait.
// One run at a time is let go on, so that each assignment is seen alone.
func order(t *testing.T, f *fleet) {
	for i := range gateways {
		f.submit(api.PriorityLow, fmt.Sprintf("holder-%d [[gate=holder-%d]]", i, i))
	}
	for i := range gateways {
		f.asked(fmt.Sprintf("holder-%d", i))
	}
	classes := []api.Priority{api.PriorityCritical, api.PriorityHigh, api.PriorityMedium, api.PriorityLow}
	var given []int // class of each task, in the order of submission
	for i := range 12 {
		given = append(given, i%len(classes))
	}
	rand.Shuffle(len(given), func(i, j int) { given[i], given[j] = given[j], given[i] })
	tasks := map[string]api.Task{}
	want := make([]string, 0, len(given))
	for c := range classes {
		for i, class := range given {
			if class == c {
				want = append(want, fmt.Sprintf("order-%02d-%s", i, classes[c]))
			}
		}
	}
	for i, class := range given {
		name := fmt.Sprintf("order-%02d-%s", i, classes[class])
		tasks[name] = f.submit(classes[class], fmt.Sprintf("%s [[gate=%s]]", name, name))
	}
	arrived := func() []string {
		var names []string
		for _, r := range f.model.Requests() {
			if i := strings.Index(r.Last, "order-"); i >= 0 {
				names = append(names, strings.Fields(r.Last[i:])[0])
			}
		}
		return names
	}
	open := []string{"holder-0", "holder-1", "holder-2"} // runs that hold a slot
	for i := range want {
		f.model.Open(open[0])
		open = open[1:]
		within(t, turnLimit, fmt.Sprintf("model call %d", i+1), func() string {
			if got := arrived(); len(got) <= i {
				return fmt.Sprint(got)
			}
			return ""
		})
		open = append(open, arrived()[i])
	}
	for _, name := range open {
		f.model.Open(name)
	}
	got := arrived()
	t.Logf("model calls: %s", strings.Join(got, " "))
	if !slices.Equal(got, want) {
		t.Errorf("order at the model\n got %v\nwant %v", got, want)
	}
	perGateway := map[string]int{}
	for name, task := range tasks {
		task = f.succeeded(task.Id, turnLimit)
		// The gateway puts the time before a message and its own facts behind it.
		if text := task.Result.Text; !strings.HasPrefix(text, "ECHO(1): ") || !strings.Contains(text, name) || task.Attempt != 1 || task.Claim != 1 {
			t.Errorf("%s: result %q, attempt %d, claim %d", name, task.Result.Text, task.Attempt, task.Claim)
		}
		if u := task.Result.Usage; u == nil || u.InputTokens <= 0 || u.OutputTokens <= 0 {
			t.Errorf("%s: usage %+v", name, u)
		}
		perGateway[value(task.Gateway)]++
	}
	t.Logf("tasks per gateway: %v", perGateway)
	if len(perGateway) != len(gateways) {
		t.Errorf("tasks ran on %v, want all three gateways", perGateway)
	}
}

// stream: the text of a run is seen while it grows.
func stream(t *testing.T, f *fleet) {
	text := strings.TrimSpace(strings.Repeat("one two three four five ", 12))
	task := f.submit(api.PriorityHigh, "stream-1 [[reply="+text+"]][[chunks=20]][[chunkms=200]]")
	ctx, cancel := context.WithTimeout(t.Context(), turnLimit)
	defer cancel()
	var got, kinds string
	var first, last time.Time
	deltas := 0
	for m, err := range f.client.StreamTask(ctx, task.Id) {
		if err != nil {
			t.Fatal(err)
		}
		if m.Type == "position" {
			continue
		}
		kinds += m.Type + " "
		switch m.Type {
		case "delta":
			var d api.RunDelta
			if err := json.Unmarshal(*m.Data, &d); err != nil {
				t.Fatal(err)
			}
			if d.Reset {
				got = ""
			}
			if d.Offset != len(got) {
				t.Errorf("delta at %d, the text so far has %d bytes", d.Offset, len(got))
			}
			got += d.Text
			if deltas++; first.IsZero() {
				first = time.Now()
			}
		case "final":
			last = time.Now()
		}
	}
	t.Logf("%d deltas, the first %s before the end: %s", deltas, last.Sub(first).Round(10*time.Millisecond), kinds)
	if deltas < 4 || last.Sub(first) < time.Second {
		t.Errorf("%d deltas in %s, want the text to grow", deltas, last.Sub(first))
	}
	if !strings.HasPrefix(text, got) || len(got) < len(text)/2 {
		t.Errorf("streamed %q of %q", got, text)
	}
	if task = f.succeeded(task.Id, turnLimit); task.Result.Text != text {
		t.Errorf("result %q", task.Result.Text)
	}
}

// cancel: it reaches the run.
func cancel(t *testing.T, f *fleet) {
	task := f.submit(api.PriorityHigh, "cancel-1 [[gate=never]]")
	f.asked("cancel-1")
	before := f.model.Stats()
	began := time.Now()
	if _, err := f.client.CancelTask(t.Context(), task.Id, api.CancelTask{Reason: ptr("changed my mind")}); err != nil {
		t.Fatal(err)
	}
	within(t, 30*time.Second, "the model call to be cut", func() string {
		if s := f.model.Stats(); s.Abandoned == before.Abandoned {
			return fmt.Sprintf("%+v", s)
		}
		return ""
	})
	cut := time.Since(began)
	task = f.terminal(task.Id, time.Minute)
	t.Logf("model call cut after %s, task %s after %s, confirmed %v", cut.Round(time.Millisecond), task.State,
		time.Since(began).Round(time.Millisecond), value(task.Cancel.Confirmed))
	if task.State != api.TaskStateCancelled || !value(task.Cancel.Confirmed) || value(task.Cancel.Reason) != "changed my mind" {
		t.Errorf("task %s, cancel %+v", task.State, task.Cancel)
	}
	if n := f.calls("cancel-1"); n != 1 {
		t.Errorf("%d model calls, want 1", n)
	}
}

// session: turns share a history, also after a move to another gateway.
func session(t *testing.T, f *fleet) {
	const id = "live-session"
	say := func(message string) api.Task {
		t.Helper()
		task, err := f.client.SendMessage(t.Context(), "", id, api.SendMessage{Message: message, Priority: ptr(api.PriorityHigh)})
		if err != nil {
			t.Fatal(err)
		}
		return f.succeeded(task.Id, turnLimit)
	}
	if _, err := f.client.CreateSession(t.Context(), api.CreateSession{Id: ptr(id)}); err != nil {
		t.Fatal(err)
	}
	first, second := say("my name is Ann"), say("what is my name")
	if !strings.Contains(first.Result.Text, "ECHO(1): ") || !strings.Contains(second.Result.Text, "ECHO(2): ") {
		t.Errorf("turns answered %q and %q, want one history", first.Result.Text, second.Result.Text)
	}
	home := value(first.Gateway)
	if value(second.Gateway) != home {
		t.Errorf("second turn on %s, first on %s", value(second.Gateway), home)
	}
	target := gateways[(slices.Index(gateways, home)+1)%len(gateways)]
	if _, err := f.client.MoveSession(t.Context(), "", id, api.MoveSession{Gateway: &target}); err != nil {
		t.Fatal(err)
	}
	third := say("and where do we go on")
	requests := f.model.Requests()
	last := requests[len(requests)-1].Last
	t.Logf("third turn on %s: %q", value(third.Gateway), last)
	if value(third.Gateway) != target {
		t.Errorf("third turn on %s, want %s", value(third.Gateway), target)
	}
	for _, part := range []string{"Replayed conversation", "my name is Ann", "what is my name", first.Result.Text, "and where do we go on"} {
		if !strings.Contains(last, part) {
			t.Errorf("%q is missing in the prompt after the move", part)
		}
	}
	fourth := say("one more")
	if !strings.Contains(fourth.Result.Text, "ECHO(2): ") || strings.Count(f.model.Requests()[len(f.model.Requests())-1].Last, "Replayed conversation") != 0 {
		t.Errorf("fourth turn answered %q: the history is replayed once", fourth.Result.Text)
	}
	tr, err := f.client.GetTranscript(t.Context(), "", id, api.Page{})
	if err != nil {
		t.Fatal(err)
	}
	var seams []bool
	for _, turn := range tr.Items {
		seams = append(seams, turn.Seam)
	}
	t.Logf("seams of the transcript: %v", seams)
	if len(seams) != 4 || seams[2] != true || seams[0] || seams[1] || seams[3] {
		t.Errorf("seams %v, want one at the third turn: %+v", seams, tr.Items)
	}
}

// poolAway is the default of a pool's away_seconds.
const poolAway = time.Minute

// gatewayKilled: kill -9 of a gateway in mid-run.
func gatewayKilled(t *testing.T, f *fleet) {
	task := f.submit(api.PriorityHigh, "killed-1 [[gate=killed-1]]")
	f.asked("killed-1")
	within(t, 30*time.Second, "the task to run", func() string {
		now, err := f.client.GetTask(t.Context(), task.Id, 0)
		if err != nil {
			return err.Error()
		}
		task = *now
		if task.State != api.TaskStateRunning {
			return string(task.State)
		}
		return ""
	})
	before := f.gateway(value(task.Gateway))
	if err := syscall.Kill(value(before.Pid), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	f.model.Open("killed-1")
	task = f.succeeded(task.Id, bootLimit)
	took := time.Since(began)
	after := f.awaitState(before.Id, bootLimit, api.GatewayStateReady)
	away := time.Since(began)
	history := f.history(task.Id)
	t.Logf("%s: pid %d -> %d, task %s after %s, attempt %d, claim %d, %d model calls, states %v, result %q", before.Id, value(before.Pid), value(after.Pid),
		task.State, took.Round(time.Second), task.Attempt, task.Claim, f.calls("killed-1"), history, task.Result.Text)
	if value(after.Pid) == value(before.Pid) || value(after.BootId) == value(before.BootId) {
		t.Errorf("the gateway was not restarted: %+v", after)
	}
	// A gateway that boots for longer than its pool waits loses the task to another one.
	moved := task.Claim == 2 && away > poolAway
	if task.Attempt != 1 || (task.Claim != 1 && !moved) {
		t.Errorf("attempt %d, claim %d after %s: a crash of the gateway uses no attempt up", task.Attempt, task.Claim, away.Round(time.Second))
	}
	// The gateway runs an interrupted turn again by itself, with words of its
	// own as the last message; that, or the run at the other gateway, is the
	// second call, and there is no third.
	if n := f.calls("killed-1"); n != 2 || !strings.HasPrefix(task.Result.Text, "ECHO(") {
		t.Errorf("%d model calls, result %q", n, task.Result.Text)
	}
	if n := strings.Count(strings.Join(history, " "), "succeeded"); n != 1 {
		t.Errorf("recorded %d times: %v", n, history)
	}
}

// acrossRestart: Dash ends and comes back while a run goes on.
func acrossRestart(t *testing.T, f *fleet, name string, stop func()) {
	pids := map[string]int{}
	for _, id := range gateways {
		pids[id] = value(f.gateway(id).Pid)
	}
	task := f.submit(api.PriorityHigh, name+" [[delay=20000]]")
	f.asked(name)
	stop()
	for id, pid := range pids {
		if !alive(pid) {
			t.Fatalf("%s (pid %d) ended with Dash", id, pid)
		}
	}
	began := time.Now()
	f.start()
	task = f.succeeded(task.Id, turnLimit)
	for _, id := range gateways {
		if g := f.awaitState(id, turnLimit, api.GatewayStateReady, api.GatewayStateDegraded); value(g.Pid) != pids[id] {
			t.Errorf("%s has pid %d, had %d", id, value(g.Pid), pids[id])
		}
	}
	t.Logf("%s: %s after %s, attempt %d, claim %d, %d model calls, states %v, pids %v", name, task.State, time.Since(began).Round(100*time.Millisecond),
		task.Attempt, task.Claim, f.calls(name), f.history(task.Id), pids)
	if task.Attempt != 1 || task.Claim != 1 || f.calls(name) != 1 {
		t.Errorf("attempt %d, claim %d, %d model calls, want 1 of each", task.Attempt, task.Claim, f.calls(name))
	}
}

func dashKilled(t *testing.T, f *fleet) {
	acrossRestart(t, f, "dash-killed", func() { f.end(syscall.SIGKILL) })
}

func dashStopped(t *testing.T, f *fleet) {
	acrossRestart(t, f, "dash-stopped", func() {
		if code := f.end(syscall.SIGTERM); code != 0 {
			t.Errorf("dash serve exits %d on SIGTERM", code)
		}
	})
}

// drain: the run finishes, the process exits 0, resume starts it again.
func drain(t *testing.T, f *fleet) {
	task := f.submit(api.PriorityHigh, "drain-1 [[gate=drain-1]]")
	f.asked("drain-1")
	now, err := f.client.GetTask(t.Context(), task.Id, 0)
	if err != nil {
		t.Fatal(err)
	}
	before := f.gateway(value(now.Gateway))
	var said string
	done := make(chan struct{})
	go func() { // the command returns when the gateway is drained
		defer close(done)
		said = f.dash("gateway", "drain", before.Id)
	}()
	t.Cleanup(func() { <-done })
	if g := f.awaitState(before.Id, 10*time.Second, api.GatewayStateDraining); g.Running != 1 || g.Window != 0 {
		t.Errorf("draining with %d runs, window %d", g.Running, g.Window)
	}
	f.model.Open("drain-1")
	if task = f.succeeded(task.Id, turnLimit); task.Attempt != 1 || f.calls("drain-1") != 1 {
		t.Errorf("attempt %d, %d model calls", task.Attempt, f.calls("drain-1"))
	}
	began := time.Now()
	g := f.awaitState(before.Id, turnLimit, api.GatewayStateDrained)
	<-done
	t.Log(strings.TrimSpace(said))
	t.Logf("drained %s after the run's end", time.Since(began).Round(100*time.Millisecond))
	if alive(value(before.Pid)) || value(g.Pid) != 0 {
		t.Errorf("pid %d lives, or is still shown as %d", value(before.Pid), value(g.Pid))
	}
	if exit := f.exit(value(before.Pid)); exit != "0" {
		t.Errorf("the drained gateway's exit: %s, want 0", exit)
	}
	t.Log(strings.TrimSpace(f.dash("gateway", "resume", before.Id)))
	after := f.awaitState(before.Id, bootLimit, api.GatewayStateReady)
	if value(after.Pid) == value(before.Pid) || !alive(value(after.Pid)) {
		t.Errorf("resumed with pid %d", value(after.Pid))
	}
}

// stopLimit bounds the end of an idle gateway. OpenClaw 2026.8.2 uses much of its
// budget of 315 s when it has run an interrupted turn again: 223 s once.
const stopLimit = 6 * time.Minute

// end: what is removed is stopped.
func end(t *testing.T, f *fleet) {
	for _, id := range gateways {
		if err := f.client.DeleteGateway(t.Context(), id, false); err != nil {
			t.Fatal(err)
		}
	}
	within(t, stopLimit, "all gateway processes to end", func() string {
		if left := f.processes(); len(left) > 0 {
			return fmt.Sprint(left)
		}
		return ""
	})
	if code := f.node.end(syscall.SIGTERM); code != 0 {
		t.Errorf("dash serve exits %d", code)
	}
	s := f.model.Stats()
	t.Logf("model: %+v", s)
	if s.Active != 0 {
		t.Errorf("%d model calls left", s.Active)
	}
}
