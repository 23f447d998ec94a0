package openclawtest

import (
	"strings"
	"testing"
)

func TestAgentAnswersTwiceUnderOneID(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	c := dial(t, b.g)
	id := c.startRun("t1.1", "agent:main:s", "hello", nil)
	final := c.answer(id, 1)
	if got, want := replyText(t, final), "ECHO(1): hello"; got != want {
		t.Fatalf("reply %q, want %q in %s", got, want, final.raw)
	}
	if final.get(t, "status") != "ok" || final.get(t, "result.meta.agentMeta.usage.input") == nil {
		t.Fatalf("final %s", final.raw)
	}
	if got := b.log.story(t, "t1.1"); got != "accepted started finished" {
		t.Fatalf("log %q", got)
	}
	if line := b.log.lines(t)[0]; line.Message != "hello" || line.Session != "agent:main:s" || line.Boot != b.g.BootID() || line.Gateway != "gw-test" {
		t.Fatalf("log line %+v", line)
	}
	second := c.run("t2.1", "agent:main:s", "again", nil)
	if got := replyText(t, second); got != "ECHO(2): again" {
		t.Fatalf("second reply %q", got)
	}
}

func TestFinishedKeyAnswersItsOldResult(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	c := dial(t, b.g)
	c.run("k1", "agent:main:a", "one", nil)
	c.run("k2", "agent:main:a", "bad [[fail=400]]", nil)
	id := c.startRun("k3", "agent:main:a", "slow [[delay=60000]]", nil)
	if f := c.call("agent", obj{"message": "slow", "idempotencyKey": "k3", "sessionKey": "agent:main:a"}); f.get(t, "status") != "in_flight" {
		t.Fatalf("repeat of a running key: %s", f.raw)
	}
	c.must("sessions.abort", obj{"key": "agent:main:a", "runId": "k3"})
	c.answer(id, 1)

	other := dial(t, b.g)
	ask := func(key string) frame {
		return other.call("agent", obj{"message": "different", "idempotencyKey": key, "sessionKey": "agent:main:other"})
	}
	if got := replyText(t, ask("k1")); got != "ECHO(1): one" {
		t.Fatalf("k1 again: %q", got)
	}
	if f := ask("k2"); f.OK || f.Error.Code != "UNAVAILABLE" || f.Error.Retryable || !strings.Contains(f.Error.Message, "rejected the request") {
		t.Fatalf("k2 again: %s", f.raw)
	}
	if f := ask("k3"); !f.OK || f.get(t, "status") != "timeout" || f.get(t, "summary") != "aborted" || f.get(t, "stopReason") != "rpc" {
		t.Fatalf("k3 again: %s", f.raw)
	}
	started := 0
	for _, l := range b.log.lines(t) {
		if l.Event == LogStarted {
			started++
		}
	}
	if started != 3 {
		t.Fatalf("%d model calls, want 3", started)
	}
}
