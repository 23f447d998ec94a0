package storetest

import (
	"errors"
	"strings"
	"testing"

	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/persistence"
)

func insertKeepsFields(t *testing.T, e Engine) {
	a := newTask()
	a.Session, a.DueAt, a.NotAfter, a.State = "s-1", messages.Now(), messages.Now(), messages.Scheduled
	a.Replays, a.Generation = 2, 7
	a.Spec.Labels = map[string]string{"team": "ops", "kind": ""}
	b := newTask()
	b.Spec = nil
	must(t, e, insert(a), insert(b))
	stored(t, e, a)
	stored(t, e, b)
}

func insertTakenID(t *testing.T, e Engine) {
	a := newTask()
	must(t, e, insert(a))
	b := newTask()
	b.ID = a.ID
	out := one(t, e, insert(b), persistence.Conflict)
	same(t, out.Current, &a)
	stored(t, e, a)
}

func keyed(t messages.Task, key, body string) persistence.Op {
	return persistence.Op{Insert: &persistence.TaskInsert{Task: t, IdemKey: key, IdemHash: []byte(body)}}
}

func idempotencyKey(t *testing.T, e Engine) {
	a, b, c, d := newTask(), newTask(), newTask(), newTask()
	c.Tenant = "acme"
	d.Pool = "other"
	must(t, e, keyed(a, "k", "body"))
	out := one(t, e, keyed(b, "k", "body"), persistence.Duplicate)
	same(t, out.Current, &a)
	if !out.SameBody {
		t.Error("same body was not recognised")
	}
	if out := one(t, e, keyed(b, "k", "other"), persistence.Duplicate); out.SameBody {
		t.Error("another body counts as the same")
	}
	must(t, e, keyed(c, "k", "body")) // per tenant
	one(t, e, keyed(d, "k", "body"), persistence.Duplicate)
	if _, err := e.Store().Task(t.Context(), "", b.ID); !errors.Is(err, persistence.ErrNotFound) {
		t.Errorf("the duplicate was stored: %v", err)
	}
	must(t, e, keyed(b, "", ""), keyed(newTask(), "", "")) // no key takes none
	e.Restart(t)
	one(t, e, keyed(newTask(), "k", "body"), persistence.Duplicate)
}

// idempotencyAsked: an insert beside a session that cannot fit keeps nothing
// and still tells who has the key, as the first part that does not fit.
func idempotencyInBatch(t *testing.T, e Engine) {
	a, b, c := newTask(), newTask(), newTask()
	out := commit(t, e, keyed(a, "k", "1"), keyed(b, "k", "1"), update(claimed(a, "g"), messages.Queued, 0), keyed(c, "k", "2"))
	want := []persistence.Status{persistence.OK, persistence.Duplicate, persistence.OK, persistence.Duplicate}
	for i, o := range out {
		if o.Status != want[i] {
			t.Fatalf("op %d: %v, want %v", i, o.Status, want[i])
		}
	}
	same(t, out[1].Current, &a)
	if !out[1].SameBody || out[3].SameBody || out[3].Current.State != messages.Claimed {
		t.Errorf("outcomes %+v", out)
	}
}

func texts(t *testing.T, e Engine) {
	for name, text := range map[string]string{
		"empty": "", "unicode": "Grüße 🦞 日本語 \u202e\u0301", "nul": "a\x00b\x00", "quotes": `'";--\%_`, "lines": "\r\n\t", "large": strings.Repeat("ä\x00x ", 64<<10),
	} {
		a := newTask()
		a.Spec.Message = text
		a.Spec.Labels = map[string]string{"k" + name: text}
		a = claimed(a, "gw")
		b := ended(a, messages.Succeeded)
		b.Result.Text = text
		b.Error = &messages.TaskError{Message: text}
		must(t, e, keyed(a, "key"+text[:min(8, len(text))], text), cancel(a, text))
		must(t, e, update(b, messages.Claimed, 1))
		got, err := e.Store().Task(t.Context(), "", a.ID)
		if err != nil {
			t.Fatal(err)
		}
		if got.Spec.Message != text || got.Result.GetText() != text || got.Error.GetMessage() != text || got.Cancel.Reason != text || got.Spec.Labels["k"+name] != text {
			t.Errorf("%s text was changed", name)
		}
	}
}

// notUTF8 is what a cut in the middle of a character leaves. It must not hold
// up the batch; the engine may store U+FFFD in its place.
func notUTF8(t *testing.T, e Engine) {
	const cut = "gr\xc3"
	a, b := newTask(), newTask()
	a.Spec.Message, a.Spec.Labels, a.Spec.Capabilities = cut, map[string]string{"k": cut}, []string{cut}
	done := ended(claimed(a, "gw"), messages.DeadLetter)
	done.Error.Message = cut
	op := update(done, messages.Queued, 0)
	op.Events = []*messages.Event{done.Event(messages.Queued, messages.Now(), cut)}
	must(t, e, insert(a), insert(b), op)
	got, err := e.Store().Task(t.Context(), "", a.ID)
	if err != nil || !strings.HasPrefix(got.Spec.Message, "gr") || !strings.HasPrefix(got.Error.GetMessage(), "gr") {
		t.Errorf("stored %q and %q, %v", got.Spec.GetMessage(), got.Error.GetMessage(), err)
	}
	if list := log(t, e, 0, 10); len(list) != 1 {
		t.Errorf("%d events", len(list))
	}
}
