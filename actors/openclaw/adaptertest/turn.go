package adaptertest

import (
	"strings"
	"time"

	"github.com/dash-fleet/dash/actors/openclaw"
)

func testTwoAnswers(b *bench) {
	c, _ := b.dial()
	r := b.send(c, b.session(), runID(), "two answers").accepted()
	a := r.final()
	if !strings.HasPrefix(a.Text, "ECHO(1): ") || !strings.Contains(a.Text, "two answers") {
		b.Errorf("reply %q", a.Text)
	}
	if a.RunID != r.id || a.Usage == nil || a.Usage.Input <= 0 || a.Usage.Output <= 0 || a.Meta.Provider == "" || a.Meta.Model == "" || a.Meta.SessionID == "" {
		b.Errorf("final %+v", a)
	}
}

func testHistory(b *bench) {
	c, _ := b.dial()
	key := b.session()
	if h := b.history(c, key); len(h.Items) != 0 {
		b.Errorf("history of a session that does not exist: %+v", h.Items)
	}
	first := b.send(c, key, runID(), "first text")
	reply := first.final().Text
	h := b.history(c, key)
	tr := h.Trace(first.id)
	if !tr.Taken || !tr.LastTurn || tr.LastItem || tr.Pending || !tr.Answered || tr.Text != reply {
		b.Errorf("trace of a finished run %+v, want its reply %q", tr, reply)
	}
	if u := h.Items[0]; u.Role != "user" || u.RunID != first.id || !strings.Contains(u.Text, "first text") {
		b.Errorf("first item %+v", u)
	}
	second := b.send(c, key, runID(), "second text")
	if text := second.final().Text; !strings.HasPrefix(text, "ECHO(2): ") {
		b.Errorf("second reply %q, want the history to be sent", text)
	}
	h = b.history(c, key)
	if tr := h.Trace(first.id); tr.LastTurn || tr.Text != reply {
		b.Errorf("trace of the first run after a second: %+v", tr)
	}
	if tr := h.Trace(runID()); tr.Taken || tr.Answered || tr.Pending {
		b.Errorf("trace of a stranger: %+v", tr)
	}
}

func testEvents(b *bench) {
	c, rec := b.dial()
	_, other := b.dial() // every operator hears of every run
	r := b.send(c, b.session(), runID(), "a text that comes in several pieces [[chunks=6]] [[chunkms=250]]")
	text := r.final().Text
	b.until("both ends of the run are told", patience, func() bool {
		_, chats, ends := rec.of(r.id)
		return len(chats) > 0 && len(ends) > 0
	})
	b.until("the other connection hears of it", patience, func() bool {
		_, chats, _ := other.of(r.id)
		return len(chats) > 0
	})
	texts, chats, ends := rec.of(r.id)
	if len(texts) < 2 {
		b.Errorf("%d deltas, want several", len(texts))
	}
	for i, t := range texts {
		if !strings.HasPrefix(text, t.Text) || i > 0 && len(t.Text) < len(texts[i-1].Text) {
			b.Errorf("delta %d %q is not the text so far", i, t.Text)
		}
	}
	if chats[0].State != "final" || chats[0].Text != text {
		b.Errorf("chat end %+v, want the reply", chats[0])
	}
	if ends[0].Phase != "end" || ends[0].Error != "" {
		b.Errorf("life cycle end %+v", ends[0])
	}
}

func testProvider400(b *bench) {
	c, rec := b.dial()
	r := b.send(c, b.session(), runID(), "refuse this [[fail=400]]")
	if f := r.failed(openclaw.ClassInvalid); f.BeforeAccept || f.Message == "" {
		b.Errorf("failure %+v", f)
	}
	b.until("the error is told", patience, func() bool {
		_, chats, _ := rec.of(r.id)
		return len(chats) > 0
	})
	_, chats, _ := rec.of(r.id)
	if chats[0].State != "error" || chats[0].Class != openclaw.ClassInvalid {
		b.Errorf("chat end %+v", chats[0])
	}
	if s := b.wait(c, r.id); !s.Over() || s.Succeeded() || s.Status != "error" {
		b.Errorf("agent.wait of a failed run %+v", s)
	}
	if tr := b.history(c, r.key).Trace(r.id); !tr.Taken || tr.Answered {
		b.Errorf("trace of a failed run %+v", tr)
	}
}

func testTimeLimit(b *bench) {
	c, _ := b.dial()
	r := b.sendLimited(c, b.session(), runID(), delay(long, "too slow"), 2*time.Second)
	r.failed(openclaw.ClassTimeout)
	if s := b.wait(c, r.id); !s.Over() || s.Status != "timeout" || s.Aborted() {
		b.Errorf("agent.wait of a run over its limit %+v", s)
	}
}

func testInFlight(b *bench) {
	c, _ := b.dial()
	c2, _ := b.dial()
	key, id := b.session(), runID()
	r := b.send(c, key, id, delay(long, "busy")).accepted()
	if a := b.send(c2, key, id, "the same run again").next(); a.Kind != openclaw.AnswerInFlight {
		b.Errorf("the same key while it runs: %s %v, want in_flight", a.Kind, a.Failure)
	}
	b.abort(c, key)
	r.failed(openclaw.ClassAborted)
}

func testFinishedKey(b *bench) {
	c, _ := b.dial()
	c2, _ := b.dial()
	key, other, id := b.session(), b.session(), runID()
	text := b.send(c, key, id, "the only text").final().Text
	if a := b.send(c, key, id, "another text").final(); a.Text != text {
		b.Errorf("same key again: %q, want the old result %q", a.Text, text)
	}
	if a := b.send(c2, other, id, "another text").final(); a.Text != text {
		b.Errorf("same key on another connection and session: %q, want the old result %q", a.Text, text)
	}
	users := 0
	for _, item := range b.history(c, key).Items {
		if item.Role == "user" {
			users++
		}
	}
	if users != 1 || len(b.history(c, other).Items) != 0 {
		b.Errorf("%d user texts, other session %+v: the key ran again", users, b.history(c, other).Items)
	}
}

func testFailedKey(b *bench) {
	c, _ := b.dial()
	key, id := b.session(), runID()
	first := b.send(c, key, id, "refuse this [[fail=400]]").failed(openclaw.ClassInvalid)
	again := b.send(c, b.session(), id, "a good text").failed(openclaw.ClassInvalid)
	if first.Message != again.Message {
		b.Errorf("a failed key again: %q, want the old error %q", again.Message, first.Message)
	}
	aborted, id := b.session(), runID()
	r := b.send(c, aborted, id, delay(long, "to be aborted")).accepted().working(c)
	b.abort(c, aborted)
	r.failed(openclaw.ClassAborted)
	b.send(c, b.session(), id, "a good text").failed(openclaw.ClassAborted)
}

func testWaitRows(b *bench) {
	c, _ := b.dial()
	done := b.send(c, b.session(), runID(), "short")
	text := done.final().Text
	if s := b.wait(c, done.id); !s.Succeeded() || !s.HasText || s.Text != text {
		b.Errorf("finished run %+v", s)
	}
	running := b.send(c, b.session(), runID(), delay(long, "busy")).accepted().working(c)
	if s := b.wait(c, running.id); s.Over() || s.Status != "timeout" {
		b.Errorf("running run %+v", s)
	}
	queued := b.send(c, running.key, runID(), "waits").accepted()
	if s := b.wait(c, queued.id); s.Over() {
		b.Errorf("queued run %+v", s)
	}
	if s := b.wait(c, runID()); s.Over() || s.Status != "timeout" {
		b.Errorf("unknown run %+v, want it to look like a running one", s)
	}
	b.abort(c, running.key)
	running.failed(openclaw.ClassAborted)
	if s := b.wait(c, running.id); !s.Aborted() || s.Succeeded() {
		b.Errorf("aborted run %+v", s)
	}
}
