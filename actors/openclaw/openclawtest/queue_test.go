package openclawtest

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"
)

func TestUnsentDeltasOfARunAreMerged(t *testing.T) {
	t.Parallel()
	r := &run{id: "r"}
	c := &conn{deltas: map[*run]int{}, wake: make(chan struct{}, 1)}
	push := func(from int, text string, replace bool) {
		c.push(outFrame{delta: &delta{run: r, runID: "r", from: from, text: text, replace: replace}}, len(text))
	}
	push(0, "ab", false)
	push(2, "abcd", false)
	c.sendEvent([]byte(`{"type":"event"`))
	push(4, "abcdef", false)
	if len(c.queue) != 2 || c.queue[0].delta.text != "abcdef" || c.queue[0].delta.from != 0 {
		t.Fatalf("queue %+v", c.queue)
	}
	var f frame
	if err := json.Unmarshal(append(c.queue[0].delta.render()[1], '}'), &f); err != nil || f.get(t, "deltaText") != "abcdef" {
		t.Fatalf("delta %+v, %v", f, err)
	}
	push(6, "", true)
	push(0, "x", false)
	if d := c.queue[0].delta; !d.replace || d.text != "x" {
		t.Fatalf("a text taken back was forgotten: %+v", d)
	}
}

func TestTickKeepsTheLinkAlive(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	c := dialRaw(t, b.g, nil)
	hello := c.must("connect", connectWith(nil))
	if got := hello.get(t, "policy.tickIntervalMs"); got != 1000.0 {
		t.Fatalf("tick interval %v: scaled below a second it would cut healthy links", got)
	}
	c.await("tick", 0, func(f frame) bool { return f.Event == "tick" && f.get(t, "ts") != nil })
}

func TestControlPlaneWritesAreLimited(t *testing.T) {
	t.Parallel()
	d := dial(t, setup(t, func(c *Config) { c.TimeScale = 1 }).g)
	for i := range 31 {
		f := d.call("gateway.suspend.prepare", obj{"requestId": "q"})
		limited := f.Error != nil && f.Error.Code == "UNAVAILABLE" && f.Error.Retryable && f.Error.RetryAfterMs > 0
		if limited != (i == 30) {
			t.Fatalf("write %d: %s", i, f.raw)
		}
	}
}

func TestAbortBeforeTheModelCallLeavesTheText(t *testing.T) {
	t.Parallel()
	b := setup(t, func(c *Config) { c.PrepareTime = time.Minute })
	c := dial(t, b.g)
	c.startRun("a1", "agent:main:a", "unsaid", nil)
	c.must("sessions.abort", obj{"runId": "a1"})
	if got := b.log.story(t, "a1"); got != "accepted aborted" {
		t.Fatalf("log %q", got)
	}
	_, keys, h := history(t, c, "agent:main:a")
	if len(keys) != 0 || h.get(t, "pendingInputs.total") != 0.0 {
		t.Fatalf("history %s", h.raw)
	}
	sim(t, b.g, `{"prepare_seconds":0}`)
	if reply := replyText(t, c.run("a2", "agent:main:a", "said", nil)); !strings.Contains(reply, "unsaid") {
		t.Fatalf("reply %q", reply)
	}
}

func TestLongQueueWithoutRunTimeDoesNotRecurse(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	c := dial(t, b.g)
	const n = 4 * maxDepth
	last := c.startRun("q0", "agent:main:q", "[[delay=300]]", nil)
	for i := 1; i < n; i++ {
		last = c.start("agent", obj{"message": "x", "idempotencyKey": fmt.Sprint("q", i), "sessionKey": "agent:main:q"})
	}
	c.answer(last, 1)
	if got := b.log.story(t, fmt.Sprint("q", n-1)); got != "accepted started finished" {
		t.Fatalf("last run %q", got)
	}
}

func TestDirectives(t *testing.T) {
	t.Parallel()
	rows := []struct{ in, rest, name, value string }{
		{"plain", "plain", "delay", ""},
		{"a [[delay=5]] b", "a  b", "delay", "5"},
		{"[[delay=1]][[delay=2]]x", "x", "delay", "2"},
		{"[[unknown=1]] x", "x", "unknown", ""},
		{"open [[delay=5", "open [[delay=5", "delay", ""},
		{"[[reply=hello there]]", "", "reply", "hello there"},
	}
	for _, r := range rows {
		rest, given := directives(r.in)
		if rest != r.rest || given[r.name] != r.value {
			t.Errorf("%q: rest %q, %s=%q", r.in, rest, r.name, given[r.name])
		}
	}
	if got := tail("añb", 2); got != "b" {
		t.Errorf("tail cut a rune: %q", got)
	}
}

func TestSessionMethods(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	c := dial(t, b.g)
	c.run("s1", "agent:main:m", "hi", nil)
	if f := c.call("sessions.delete", obj{"key": "agent:main:m", "expectedSessionId": "other"}); f.OK {
		t.Fatal("deletion of another generation")
	}
	if f := c.call("agent", obj{"message": "x", "idempotencyKey": "long", "sessionKey": strings.Repeat("k", 600)}); f.OK {
		t.Fatal("a key of 600 characters was taken")
	}
	for _, method := range []string{"sessions.list", "device.pair.list", "gateway.suspend.status"} {
		c.must(method, obj{})
	}
}
