package messages

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestSecretNeverPrintsItself(t *testing.T) {
	t.Parallel()
	const text = "s3cr3t-token"
	s := Secret(text)
	holder := struct {
		Token Secret
		Deep  map[string]any
	}{s, map[string]any{"x": s, "y": &s}}
	js, err := json.Marshal(holder)
	if err != nil {
		t.Fatal(err)
	}
	var log strings.Builder
	slog.New(slog.NewJSONHandler(&log, nil)).Info("m", slog.Any("t", s), slog.Any("h", holder))
	slog.New(slog.NewTextHandler(&log, nil)).Info("m", slog.Any("t", s), slog.Any("h", holder))
	for _, out := range []string{
		fmt.Sprint(s), fmt.Sprintf("%v %+v %#v %s %q %x", s, s, s, s, s, s), fmt.Sprintf(strings.Join([]string{"%", "d"}, ""), s),
		fmt.Sprintf("%v %+v %#v", holder, holder, holder), string(js), log.String(),
	} {
		if strings.Contains(out, text) || strings.Contains(out, fmt.Sprintf("%x", text)) {
			t.Errorf("secret printed: %s", out)
		}
	}
	if s.Reveal() != text || !s.Equal(text) || s.Equal("other") || s.Empty() {
		t.Error("Reveal, Equal or Empty is wrong")
	}
}

// TestRunIDIsOfOneClaim: no two claims share a run id, whatever dots an id has.
func TestRunIDIsOfOneClaim(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		task, claim := rapid.StringMatching(`[12.]{1,4}`), rapid.Int64Range(1, 30)
		a, b := task.Draw(t, "task"), task.Draw(t, "other task")
		n, m := claim.Draw(t, "claim"), claim.Draw(t, "other claim")
		if same := RunID(a, n) == RunID(b, m); same != (a == b && n == m) {
			t.Fatalf("%q claim %d and %q claim %d have the run ids %q and %q", a, n, b, m, RunID(a, n), RunID(b, m))
		}
	})
	if got, want := RunID("t", 3), "t.3"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestClassesParseAndOrder(t *testing.T) {
	t.Parallel()
	for i, c := range Classes {
		got, err := ParseClass(c.String())
		if err != nil || got != c || !c.Valid() {
			t.Errorf("class %v: %v, %v", c, got, err)
		}
		if i > 0 && Classes[i-1] >= c {
			t.Errorf("%v is not after %v", c, Classes[i-1])
		}
	}
	if _, err := ParseClass("urgent"); err == nil {
		t.Error("unknown class was taken")
	}
	if Class(0).Valid() || Class(9).Valid() {
		t.Error("a class outside the four is valid")
	}
}

func TestStatesParse(t *testing.T) {
	t.Parallel()
	for _, n := range TaskStateNames() {
		if s, err := ParseTaskState(n); err != nil || s.String() != n {
			t.Errorf("%s: %v %v", n, s, err)
		}
	}
	if _, err := ParseTaskState(""); err == nil {
		t.Error("empty state was taken")
	}
}

func TestIDs(t *testing.T) {
	t.Parallel()
	a := NewID()
	b := NewID()
	if a >= b {
		t.Errorf("ids do not grow: %s, %s", a, b)
	}
	for _, good := range []string{a, "gw-1", "a", "agent:main:x", "...", "..a", ".a", "a.", "a..", strings.Repeat("x", 128), strings.Repeat(".", 128)} {
		if CheckID(good) != nil {
			t.Errorf("%q refused", good)
		}
	}
	for _, bad := range []string{"", "a b", "a/b", "ä", "a\n", strings.Repeat("x", 129)} {
		if CheckID(bad) == nil {
			t.Errorf("%q taken", bad)
		}
	}
}

func TestTaskEvent(t *testing.T) {
	t.Parallel()
	task := Task{ID: "t1", Tenant: "default", Pool: "p", Class: High, Seq: 4, State: Claimed, Claim: 2, Gateway: "g"}
	at := time.UnixMicro(1_700_000_000_000_000)
	e := task.Event(Queued, at, "")
	d := e.GetTask()
	if e.Subject != "t1" || e.TimeMicros != at.UnixMicro() || d.State != "claimed" || d.From != "queued" || d.RunId != "t1.2" {
		t.Errorf("event = %v", e)
	}
	if task.SessionKey() != "agent:main:dash:default:task-t1:0" {
		t.Errorf("session key = %s", task.SessionKey())
	}
}

func TestErrorCarriesCode(t *testing.T) {
	t.Parallel()
	err := fmt.Errorf("submit: %w", &Error{Code: CodeQueueFull, Message: "full", NextStep: "wait"})
	if CodeOf(err) != CodeQueueFull {
		t.Errorf("code = %s", CodeOf(err))
	}
	if CodeOf(fmt.Errorf("plain")) != CodeInternal {
		t.Error("a plain error must be internal")
	}
}
