package hostile

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/dash-fleet/dash/http/api"
	"github.com/dash-fleet/dash/soak/harness"
)

// neighbour has tasks done by honest gateways, and looks at all that comes of them.
func (a *attack) neighbour(ctx context.Context, i int) {
	for n := 0; ctx.Err() == nil; n++ {
		begun := time.Now()
		t, err := a.bench.Client.SubmitTask(ctx, api.SubmitTask{Priority: "high", Input: api.SubmitInput{Message: fmt.Sprintf("neighbour %d.%d", i, n)}})
		if err == nil {
			a.told(t.Id + ".1")
			t, err = a.bench.Client.GetTask(ctx, t.Id, time.Minute)
		}
		took := time.Since(begun)
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			a.failed(err.Error())
		case t.State != api.TaskStateSucceeded:
			a.failed(fmt.Sprintf("task %s is %s: %v", t.Id, t.State, t.Error))
		case t.Result == nil || strings.Contains(fmt.Sprintf("%+v %+v", *t.Result, t.Error), a.fake.Mark):
			a.foreign(fmt.Sprintf("task %s ended with %+v", t.Id, t.Result))
		default:
			a.mu.Lock()
			a.window = append(a.window, took)
			a.mu.Unlock()
		}
		if harness.Pause(ctx, 5*time.Millisecond) != nil {
			return
		}
	}
}

// told gives the fake the ids of runs that are not its own.
func (a *attack) told(run string) {
	a.mu.Lock()
	a.recent = append(a.recent, run)
	if len(a.recent) > 64 {
		a.recent = a.recent[1:]
	}
	ids := append([]string(nil), a.recent...)
	a.mu.Unlock()
	a.fake.Foreign(ids)
}

func (a *attack) failed(what string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.report.Failed) < 10 {
		a.report.Failed = append(a.report.Failed, what)
	}
}

func (a *attack) foreign(what string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.report.Foreign) < 10 {
		a.report.Foreign = append(a.report.Foreign, what)
	}
}

// feed keeps the hostile gateway's pool full of tasks. What becomes of them is
// the hostile gateway's business.
func (a *attack) feed(ctx context.Context) {
	in, attempts := pool, int32(1)
	limit := int64(30)
	for n := 0; ctx.Err() == nil; n++ {
		until := time.Now().Add(5 * time.Second)
		_, err := a.bench.Client.SubmitTask(ctx, api.SubmitTask{Priority: "low", Pool: &in, MaxAttempts: &attempts, NotAfter: &until,
			Input: api.SubmitInput{Message: "hostile " + strconv.Itoa(n), TimeoutSeconds: &limit}})
		pause := 15 * time.Millisecond
		if err != nil {
			pause = 200 * time.Millisecond
		}
		if harness.Pause(ctx, pause) != nil {
			return
		}
	}
}

// resident reads a field of /proc/<pid>/status in bytes.
func resident(pid int, field string) (int64, error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(data)) {
		rest, ok := strings.CutPrefix(line, field+":")
		if !ok {
			continue
		}
		kib, err := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(rest), "kB")), 10, 64)
		return kib << 10, err
	}
	return 0, fmt.Errorf("/proc/%d/status has no %s", pid, field)
}

// resetPeak makes VmHWM count from now on.
func resetPeak(pid int) error {
	return os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", pid), []byte("5"), 0)
}
