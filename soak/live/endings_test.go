//go:build live && linux

package live

import (
	"strings"
	"testing"
	"time"

	"github.com/dash-fleet/dash/actors/openclaw/fakemodel"
	"github.com/dash-fleet/dash/http/api"
)

func (f *fleet) once(message, model string) api.Task {
	f.t.Helper()
	in := api.SubmitInput{Message: message, TimeoutSeconds: ptr(int64(600))}
	if model != "" {
		in.Model = &model
	}
	task, err := f.client.SubmitTask(f.t.Context(), api.SubmitTask{Priority: api.PriorityHigh, Input: in, MaxAttempts: ptr(int32(1))})
	if err != nil {
		f.t.Fatal(err)
	}
	return *task
}

// reason waits until a task tells what keeps it.
func (f *fleet) reason(id, words string) {
	f.t.Helper()
	within(f.t, turnLimit, "the reason of task "+id, func() string {
		task, err := f.client.GetTask(f.t.Context(), id, 0)
		if err != nil {
			return err.Error()
		}
		if got := value(task.WaitingReason); !strings.Contains(got, words) {
			return string(task.State) + ": " + got
		}
		return ""
	})
}

// endings: a run that goes wrong says why, what it cost, and whether its
// provider was asked at all; a failing provider is told while it fails; what a
// task says is never a command.
func endings(t *testing.T, f *fleet) {
	for _, tt := range []struct {
		message, model, code string
		retry, cost          bool
	}{
		{"endings-1 [[fail=filter]]", "", "content_filter", false, true},
		{"endings-2 [[fail=empty]]", "", "empty_answer", true, true},
		{"endings-3 [[fail=overflow]]", "", "context_overflow", false, false},
		{"endings-4", "nosuch/model", "model_unknown", false, false},
	} {
		task := f.terminal(f.once(tt.message, tt.model).Id, turnLimit)
		e := task.Error
		if task.State != api.TaskStateDeadLetter || e == nil || e.Code != tt.code || e.Retryable != tt.retry || tt.cost && (e.Usage == nil || e.Usage.InputTokens <= 0) {
			t.Errorf("%s: %s %+v", tt.message, task.State, e)
		}
	}
	task := f.succeeded(f.once(" \n/Reset [[cached=200]]", "").Id, turnLimit)
	if u := task.Result.Usage; u == nil || u.CachedInputTokens != 200 || u.InputTokens <= 200 {
		t.Errorf("usage %+v", u)
	}
	if !strings.Contains(task.Result.Text, "/Reset") || task.Input.Message != " \n/Reset [[cached=200]]" {
		t.Errorf("a command as text: %q of %q", task.Result.Text, task.Input.Message)
	}

	failing(t, f)

	spent := "spent/" + fakemodel.Model
	for range gateways { // each one loses the provider
		if task := f.terminal(f.once("endings-6 [[fail=402]]", spent).Id, turnLimit); task.Error == nil || task.Error.Code != "provider_auth" {
			t.Errorf("%s %+v", task.State, task.Error)
		}
	}
	held := f.once("endings-7", spent)
	f.reason(held.Id, "switched off the model provider spent until ")
	f.succeeded(f.once("endings-8", "").Id, turnLimit) // others go on
	if _, err := f.client.CancelTask(t.Context(), held.Id, api.CancelTask{}); err != nil {
		t.Fatal(err)
	}
	if task := f.terminal(held.Id, time.Minute); task.Attempt != 0 {
		t.Errorf("a task that waited for its provider used %d attempts", task.Attempt)
	}
	if n := f.calls("endings-7"); n != 0 {
		t.Errorf("%d model calls of a provider that is off", n)
	}
}

// failing: a run whose provider fails says so while the gateway calls it again.
// OpenClaw 2026.8.2 gives up after three calls within two seconds; its end says it.
func failing(t *testing.T, f *fleet) {
	trouble := f.once("endings-5 [[fail=500]]", "")
	f.asked("endings-5")
	began := time.Now()
	var task *api.Task
	within(t, turnLimit, "the reason of task "+trouble.Id, func() (why string) {
		var err error
		if task, err = f.client.GetTask(t.Context(), trouble.Id, 0); err != nil {
			return err.Error()
		}
		if why = value(task.WaitingReason); task.State == api.TaskStateDeadLetter || strings.Contains(why, "the model provider fake fails (internal error") {
			return ""
		}
		return string(task.State) + ": " + why
	})
	if task.State == api.TaskStateDeadLetter {
		if n := f.calls("endings-5"); n > 3 || task.Error == nil || task.Error.Code != "provider_unavailable" {
			t.Errorf("nothing was told during %d calls; the end is %+v", n, task.Error)
		}
		return
	}
	t.Logf("the failing provider was told %s after the first call was seen", time.Since(began).Round(10*time.Millisecond))
	if _, err := f.client.CancelTask(t.Context(), trouble.Id, api.CancelTask{}); err != nil {
		t.Fatal(err)
	}
	f.terminal(trouble.Id, time.Minute)
}
