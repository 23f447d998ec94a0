package storetest

import (
	"errors"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/persistence"
)

// bigTask is a task whose message has so many bytes.
func bigTask(session string, n int) messages.Task {
	a := newTask()
	a.Session, a.Spec.Message = session, strings.Repeat("m", n)
	a.Spec.Labels = map[string]string{"of": "pages"}
	return a
}

func bodies(list []messages.Task) (n int) {
	for i := range list {
		n += len(list[i].Spec.GetMessage()) + len(list[i].Result.GetText())
	}
	return n
}

// pageBytes reads long tasks: no page holds more than its bytes, and the pages
// together hold each task once.
func pageBytes(t *testing.T, e Engine) {
	var want []string
	for range 20 {
		a := bigTask("", 500<<10)
		must(t, e, insert(a))
		want = append([]string{a.ID}, want...)
	}
	for name, f := range map[string]persistence.TaskFilter{
		"all": {}, "open": {States: []messages.TaskState{messages.Queued}}, "label": {LabelKey: "of"}, "begin": {IDBegin: want[0][:6]},
	} {
		var got []string
		for cursor := ""; ; {
			list, next, err := e.Store().Tasks(t.Context(), f, cursor, 1000)
			if err != nil {
				t.Fatal(err)
			}
			if n := bodies(list); n > 4<<20 {
				t.Fatalf("%s: a page of %d bytes", name, n)
			}
			if got = append(got, ids(list)...); next == "" {
				break
			}
			if cursor = next; len(list) == 0 {
				t.Fatalf("%s: an empty page with a cursor", name)
			}
		}
		same(t, got, want)
	}
}

// longTranscript pages through turns that are long, the newest first.
func longTranscript(t *testing.T, e Engine) {
	var want []string
	for range 9 {
		a := bigTask("s", 200<<10)
		must(t, e, insert(a))
		done := ended(claimed(a, "gw"), messages.Succeeded)
		done.Result.Text = strings.Repeat("r", 1<<20)
		must(t, e, update(done, messages.Queued, 0))
		want = append(want, a.ID)
	}
	var got []string
	for before := ""; ; {
		list, older, err := e.Store().Transcript(t.Context(), "default", "s", before, 1000)
		if err != nil {
			t.Fatal(err)
		}
		if n := bodies(list); n == 0 || n > 4<<20 {
			t.Fatalf("a page of %d bytes", n)
		}
		if got = append(ids(list), got...); !older {
			break
		}
		before = list[0].ID
	}
	same(t, got, want)
}

// briefTasks reads tasks of many sizes without their long texts: all else is as
// it is in full, also where more than the texts is long.
func briefTasks(t *testing.T, e Engine) {
	labels := map[string]string{}
	for i := range 60 {
		labels[strings.Repeat("l", 50)+string(rune('a'+i%26))+string(rune('a'+i/26))] = strings.Repeat("v", 256)
	}
	var want []messages.Task
	for _, n := range []int{1, 7 << 10, 9 << 10, 17 << 10, 250 << 10} {
		for _, of := range []map[string]string{nil, labels} {
			a := bigTask("s", n)
			if of != nil {
				a.Spec.Labels = of
			}
			must(t, e, insert(a))
			a = ended(claimed(a, "gw"), messages.Succeeded)
			a.Result.Text, a.Result.CutFrom = strings.Repeat("r", 16*n), 1<<30
			must(t, e, update(a, messages.Queued, 0))
			want = append([]messages.Task{a}, want...)
		}
	}
	got, next, err := e.Store().Tasks(t.Context(), persistence.TaskFilter{Brief: true, Session: "s"}, "", 100)
	if err != nil || next != "" || len(got) != len(want) {
		t.Fatalf("%d tasks, next %q, %v", len(got), next, err)
	}
	for i, w := range want {
		one, err := e.Store().TaskBrief(t.Context(), "default", w.ID)
		if err != nil {
			t.Fatal(err)
		}
		same(t, one, got[i])
		if n := bodies(got[i : i+1]); n > 40<<10 {
			t.Errorf("a brief task holds %d bytes", n)
		}
		sameBrief(t, one, w)
	}
	if _, err := e.Store().TaskBrief(t.Context(), "acme", want[0].ID); !errors.Is(err, persistence.ErrNotFound) {
		t.Errorf("a task of another tenant: %v", err)
	}
}

// sameBrief checks that nothing but the texts is missing, and that their length is told.
func sameBrief(t *testing.T, got, want messages.Task) {
	t.Helper()
	if b := got.Brief; b != nil {
		if b.Message > 0 {
			if b.Message != int64(len(want.Spec.Message)) {
				t.Errorf("a message of %d bytes, told as %d", len(want.Spec.Message), b.Message)
			}
			want.Spec = proto.CloneOf(want.Spec)
			want.Spec.Message = ""
		}
		if b.Text > 0 {
			if b.Text != int64(len(want.Result.Text)) {
				t.Errorf("a text of %d bytes, told as %d", len(want.Result.Text), b.Text)
			}
			want.Result = proto.CloneOf(want.Result)
			want.Result.Text = ""
		}
		want.Brief = b
	}
	same(t, got, want)
}
