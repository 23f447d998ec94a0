package telemetry

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/dash-fleet/dash/messages"
)

// logLines are the lines that a JSON log got.
type logLines struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *logLines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(b)
}

func (l *logLines) read(t *testing.T) (out []map[string]any) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	for line := range strings.Lines(l.buf.String()) {
		var m map[string]any
		if err := json.Unmarshal([]byte(line), &m); err != nil {
			t.Fatal(err)
		}
		out = append(out, m)
	}
	return out
}

func taskEvent(id string, from, to messages.TaskState, at time.Time, code string) *messages.Event {
	change := &messages.TaskChanged{Pool: "default", From: from.String(), State: to.String(), Gateway: "gw", Attempt: 2, Reason: "why"}
	if code != "" {
		change.Error = &messages.TaskError{Code: code, Message: "words of a provider"}
	}
	return &messages.Event{Type: "task.state", Subject: id, Tenant: "acme", TimeMicros: at.UnixMicro(), Data: &messages.Event_Task{Task: change}}
}

// TestHeldAndDeadTasksAreLogged: with what decides about them, not with what a
// provider said; other changes are no news here.
func TestHeldAndDeadTasksAreLogged(t *testing.T) {
	t.Parallel()
	var out logLines
	l := NewTaskLog(slog.New(slog.NewJSONHandler(&out, nil)), prometheus.NewRegistry(), 24*time.Hour)
	defer l.Close()
	at := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	l.Note([]*messages.Event{
		taskEvent("t1", messages.Running, messages.Held, at, ""),
		taskEvent("t2", messages.Running, messages.DeadLetter, at, "model_unknown"),
		taskEvent("t3", messages.Running, messages.Succeeded, at, ""),
		taskEvent("t4", messages.Running, messages.RetryWait, at, "rate_limit"),
		{Type: "gateway.state", Subject: "gw"},
	})
	lines := out.read(t)
	if len(lines) != 2 {
		t.Fatalf("%d lines, want 2: %v", len(lines), lines)
	}
	for i, want := range []map[string]any{
		{"level": "WARN", "msg": "task is held, the outcome of its run is not known", "task": "t1", "tenant": "acme", "pool": "default", "gateway": "gw",
			"attempt": 2.0, "reason": "why", "decision_due": "2026-03-02T12:00:00Z", "next_step": "`dash task release t1` with --requeue or --fail"},
		{"level": "WARN", "msg": "task is a dead letter", "task": "t2", "tenant": "acme", "pool": "default", "gateway": "gw",
			"attempt": 2.0, "reason": "why", "code": "model_unknown"},
	} {
		delete(lines[i], "time")
		if len(lines[i]) != len(want) {
			t.Errorf("line %d is %v, want %v", i, lines[i], want)
		}
		for k, v := range want {
			if lines[i][k] != v {
				t.Errorf("line %d: %s is %v, want %v", i, k, lines[i][k], v)
			}
		}
	}
}

// TestAMassFailureDoesNotFloodTheLog: those left out are counted, told when the
// window ends without anybody's help, and the next window has room again.
func TestAMassFailureDoesNotFloodTheLog(t *testing.T) {
	t.Parallel()
	var out logLines
	l := NewTaskLog(slog.New(slog.NewJSONHandler(&out, nil)), prometheus.NewRegistry(), 24*time.Hour)
	l.window = 200 * time.Millisecond
	defer l.Close()
	var events []*messages.Event
	for i := range 5000 {
		events = append(events, taskEvent(strconv.Itoa(i), messages.Running, messages.DeadLetter, time.Now(), "failed"))
	}
	events = append(events, taskEvent("h", messages.Running, messages.Held, time.Now(), ""))
	l.Note(events)
	var lines []map[string]any
	for deadline := time.Now().Add(10 * time.Second); len(lines) <= taskLogLines && time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		lines = out.read(t)
	}
	if len(lines) != taskLogLines+1 {
		t.Fatalf("%d lines, want %d", len(lines), taskLogLines+1)
	}
	if last := lines[taskLogLines]; last["held"] != 1.0 || last["dead_letters"] != 5000.0-taskLogLines {
		t.Errorf("what was left out: %v", last)
	}
	if n := testutil.ToFloat64(l.skipped); n != 5001-taskLogLines {
		t.Errorf("the metric counts %v", n)
	}
	l.Note(events[:1])
	if lines = out.read(t); len(lines) != taskLogLines+2 || lines[taskLogLines+1]["task"] != "0" {
		t.Errorf("the next window has no room: %v", lines[taskLogLines+1:])
	}
}
