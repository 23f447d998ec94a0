package events_test

import (
	"bufio"
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/dash-fleet/dash/http/api"
	"github.com/dash-fleet/dash/http/events"
	"github.com/dash-fleet/dash/messages"
)

// ids reads a stream as a browser does: next returns each id as it comes,
// whether data comes with it or not.
func (r *rig) ids(path string) (next func() string, stop func()) {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.t.Context(), 10*time.Second)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, r.url+path, nil)
	if err != nil {
		r.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer good")
	resp, err := r.http.Do(req)
	if err != nil {
		r.t.Fatal(err)
	}
	lines := bufio.NewScanner(resp.Body)
	id := "none"
	return func() string {
		for lines.Scan() {
			switch line := lines.Text(); {
			case strings.HasPrefix(line, "id: "):
				id = line[4:]
			case line == "":
				return id
			}
		}
		return "end"
	}, func() { cancel(); _ = resp.Body.Close() }
}

// TestAStreamSaysItsPositionAtOnce: a client that saw no event yet resumes
// where it began, so that it misses nothing while it is away.
func TestAStreamSaysItsPositionAtOnce(t *testing.T) {
	t.Parallel()
	r := setup(t, events.Config{})
	first := func(path, want string) {
		t.Helper()
		next, stop := r.ids(path)
		defer stop()
		if got := next(); got != want {
			t.Errorf("%s begins with id %q, want %q", path, got, want)
		}
	}
	first("/log", "0") // nothing has happened yet
	r.publish(3, "a", "default")
	first("/log", "3")
	first("/log?since=1", "1") // what follows has not been sent yet
	first("/log?topics=task.b.*", "3")
}

// TestAFilteredStreamMovesWithTheLog: what a client does not want moves its
// position too, so that it is no gap when the log has lost it.
func TestAFilteredStreamMovesWithTheLog(t *testing.T) {
	t.Parallel()
	r := setup(t, events.Config{Heartbeat: 10 * time.Millisecond})
	next, stop := r.ids("/log?topics=task.b.*")
	defer stop()
	r.publish(600, "a", "default")
	id := next()
	for id != "600" && id != "end" {
		id = next()
	}
	if id != "600" {
		t.Fatalf("its position is %s, want 600", id)
	}
	r.Trim(500)
	r.publish(1, "b", "default")
	resumed, stop2 := r.stream(fmt.Sprintf("/log?topics=task.b.*&since=%s", id))
	defer stop2()
	if m := resumed(); m.Seq == nil || *m.Seq != 601 {
		t.Fatalf("resumed after %s: %+v", id, m)
	}
}

// TestALongPastMovesAFilteredStream: it says where it is before it has read
// everything that it does not want.
func TestALongPastMovesAFilteredStream(t *testing.T) {
	t.Parallel()
	r := setup(t, events.Config{}) // no heartbeat in this test
	r.publish(1200, "a", "default")
	next, stop := r.ids("/log?topics=task.b.*&since=0")
	defer stop()
	for _, want := range []string{"0", "500"} {
		if got := next(); got != want {
			t.Fatalf("position %s, want %s", got, want)
		}
	}
}

func TestASocketSaysItsPosition(t *testing.T) {
	t.Parallel()
	r := setup(t, events.Config{Heartbeat: 10 * time.Millisecond, SubscribeIn: time.Minute})
	_, next, send := r.dial("good")
	send(`{"type":"subscribe","topics":["task.b.*"]}`)
	if s := data[api.Subscribed](t, next()); s.Since != 0 {
		t.Fatalf("%+v", s)
	}
	r.publish(600, "a", "default")
	for {
		m := next()
		if m.Type != "position" {
			t.Fatalf("%+v", m)
		}
		if m.Seq != nil && *m.Seq == 600 { // before the first event it has none
			return
		}
	}
}

// TestARunsStreamMovesWithTheLog: what happens to other tasks moves the place of
// a run's stream, too; and only past what it was told of its own.
func TestARunsStreamMovesWithTheLog(t *testing.T) {
	t.Parallel()
	r := setup(t, events.Config{Heartbeat: 10 * time.Millisecond})
	r.PutTask(messages.Task{ID: "b", Tenant: "default", State: messages.Running, Claim: 1})
	next, stop := r.ids("/run/b")
	defer stop()
	r.publish(600, "a", "default")
	id := next()
	for id != "600" && id != "end" {
		id = next()
	}
	if id != "600" {
		t.Fatalf("its position is %s, want 600", id)
	}
}
