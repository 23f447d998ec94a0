package feed

import (
	"testing"

	"github.com/dash-fleet/dash/messages"
)

func event(seq int64, task, state string) *messages.Event {
	return &messages.Event{Seq: seq, Subject: task, Type: "task.state",
		Data: &messages.Event_Task{Task: &messages.TaskChanged{State: state}}}
}

func TestSubscriptionGetsEverythingInOrder(t *testing.T) {
	t.Parallel()
	f := New(7, nil)
	s := f.Subscribe(10)
	if s.From() != 7 {
		t.Fatalf("from = %d, want 7", s.From())
	}
	f.Publish([]*messages.Event{event(8, "a", "queued"), event(9, "a", "claimed")})
	for want := int64(8); want <= 9; want++ {
		if e := <-s.C(); e.Seq != want {
			t.Fatalf("seq = %d, want %d", e.Seq, want)
		}
	}
	s.Close()
	s.Close()
	if _, open := <-s.C(); open {
		t.Fatal("channel still open after Close")
	}
}

func TestSlowWatcherIsCutAndOthersGoOn(t *testing.T) {
	t.Parallel()
	f := New(0, nil)
	slow, fast := f.Subscribe(1), f.Subscribe(3)
	f.Publish([]*messages.Event{event(1, "a", "queued"), event(2, "a", "claimed")})
	<-slow.C()
	select {
	case _, open := <-slow.C():
		if open || !slow.Slow() {
			t.Fatalf("slow watcher was not cut: open=%v slow=%v", open, slow.Slow())
		}
	default:
		t.Fatal("slow watcher was not cut, and has a hole")
	}
	if e := <-fast.C(); e.Seq != 1 {
		t.Fatalf("fast watcher got %d first", e.Seq)
	}
	if fast.Slow() {
		t.Fatal("fast watcher was cut")
	}
}

func TestRunTextIsLatestWinsAndForgotten(t *testing.T) {
	t.Parallel()
	f := New(0, nil)
	f.Text("t", 1, "he")
	w := f.WatchRun("t")
	if text, claim := w.Text(); text != "he" || claim != 1 {
		t.Fatalf("snapshot = %q %d", text, claim)
	}
	f.Text("t", 2, "new")
	f.Text("t", 1, "late text of the old claim")
	<-w.C()
	if text, _ := w.Text(); text != "new" {
		t.Fatalf("text = %q, want that of the newest claim", text)
	}
	f.Publish([]*messages.Event{event(1, "t", "succeeded")})
	w.Close()
	f.Text("u", 1, "x")
	f.Publish([]*messages.Event{event(2, "u", "dead_letter")})
	if len(f.runs) != 0 {
		t.Fatalf("%d runs kept after their end", len(f.runs))
	}
}

func TestAwaitEnd(t *testing.T) {
	t.Parallel()
	f := New(0, nil)
	ended, stop := f.AwaitEnd("t")
	defer stop()
	other, stopOther := f.AwaitEnd("other")
	f.Publish([]*messages.Event{event(1, "t", "running")})
	select {
	case <-ended:
		t.Fatal("running is no end")
	default:
	}
	f.Publish([]*messages.Event{event(2, "t", "succeeded")})
	<-ended
	select {
	case <-other:
		t.Fatal("another task's end was told")
	default:
	}
	stopOther()
	if len(f.ends) != 0 {
		t.Fatalf("%d waiters kept", len(f.ends))
	}
}

// TestTextAfterTheEndIsForgotten: a run may go on at its gateway after its task
// has ended; its owner's last, empty text leaves nothing behind.
func TestTextAfterTheEndIsForgotten(t *testing.T) {
	t.Parallel()
	f := New(0, nil)
	f.Text("t", 1, "early")
	f.Publish([]*messages.Event{event(1, "t", "cancelled")})
	f.Text("t", 1, "late")
	f.Text("t", 1, "")
	f.Text("u", 2, "claimed by another gateway")
	f.Text("u", 1, "")
	if _, there := f.runs["t"]; there || len(f.runs) != 1 {
		t.Errorf("kept %v, want u alone", f.runs)
	}
}

// TestTroubleLastsUntilTheNextText, the next claim or the end, and leaves nothing
// behind.
func TestTroubleLastsUntilTheNextText(t *testing.T) {
	t.Parallel()
	f := New(0, nil)
	words := func(task string, claim int64) string {
		code, words := f.TroubleOf(task, claim)
		if (code == "") != (words == "") {
			t.Errorf("code %q of %q", code, words)
		}
		return words
	}
	f.Trouble("t", 2, messages.WaitsProvider, "HTTP 500")
	f.Trouble("t", 1, messages.WaitsProvider, "of an old claim")
	if got := words("t", 2); got != "HTTP 500" || words("t", 1) != "" || words("u", 1) != "" {
		t.Fatalf("trouble %q", got)
	}
	w := f.WatchRun("t")
	w.Close() // a watcher that goes takes nothing along
	if words("t", 2) != "HTTP 500" {
		t.Fatal("lost with its watcher")
	}
	f.Text("t", 2, "it answers")
	if got := words("t", 2); got != "" {
		t.Fatalf("trouble %q of a run that goes on", got)
	}
	f.Trouble("t", 2, messages.WaitsProvider, "HTTP 500 again")
	f.Publish([]*messages.Event{event(1, "t", "retry_wait")})
	if got := words("t", 2); got != "" {
		t.Fatalf("trouble %q of a run that is over", got)
	}
	f.Trouble("t", 3, messages.WaitsSubAgents, "at work")
	if code, words := f.TroubleOf("t", 3); code != messages.WaitsSubAgents || words != "at work" {
		t.Errorf("%s, %q", code, words)
	}
	f.Publish([]*messages.Event{event(2, "t", "dead_letter")})
	f.Text("t", 3, "")
	if len(f.runs) != 0 {
		t.Errorf("kept %v", f.runs)
	}
}
