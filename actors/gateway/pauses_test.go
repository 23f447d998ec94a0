package gateway

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/dash-fleet/dash/actors/session"
)

func offFor(provider string, d time.Duration) session.Trouble {
	return session.Trouble{Kind: session.AuthTrouble, Provider: provider, Pause: d, Why: "HTTP 402"}
}

func (p *pauses) names() string {
	var out []string
	for _, v := range p.list() {
		out = append(out, "<"+v.Provider+">")
	}
	return strings.Join(out, "")
}

func TestPausesAreOfOneProvider(t *testing.T) {
	t.Parallel()
	var p pauses
	p.note(offFor("a", time.Minute), "a/m", t0)
	if got := p.names(); got != "<a>" {
		t.Fatalf("after a task that names its model: %s", got)
	}
	if r := p.reason(); !strings.Contains(r, "provider a until 12:01:00 UTC: HTTP 402") {
		t.Errorf("reason %q", r)
	}
	p.note(offFor("b", 10*time.Minute), "", t0)
	if got := p.names(); got != "<><a><b>" {
		t.Fatalf("after a task that names none: %s", got)
	}
	p.note(offFor("b", time.Minute), "b/m", t0.Add(time.Second)) // ends sooner: changes nothing
	if !p.expire(t0.Add(time.Minute)) || p.names() != "<><b>" {
		t.Fatalf("after a minute: %s", p.names())
	}
	if p.expire(t0.Add(10*time.Minute-time.Second)) || !p.expire(t0.Add(10*time.Minute)) || p.names() != "" || p.reason() != "" {
		t.Fatalf("after ten: %s %q", p.names(), p.reason())
	}
	// By now it is known that tasks without a model use b.
	p.note(offFor("b", time.Minute), "b/m", t0.Add(time.Hour))
	if got := p.names(); got != "<><b>" {
		t.Fatalf("the default provider by its name: %s", got)
	}
}

func TestPausesAreBounded(t *testing.T) {
	t.Parallel()
	var p pauses
	for i := range 3 * maxPauses {
		p.note(offFor("", time.Duration(i+1)*time.Second), fmt.Sprintf("p%03d/m", i), t0)
	}
	if len(p.off) != maxPauses || p.off["p191"].Provider == "" {
		t.Fatalf("%d pauses", len(p.off))
	}
}

func TestPausesEndEarly(t *testing.T) {
	t.Parallel()
	var p pauses
	p.note(offFor("b", 10*time.Minute), "", t0)
	p.note(offFor("a", 10*time.Minute), "a/m", t0)
	if p.served("b", t0) || p.served("b", t0.Add(-time.Second)) || p.served("c", t0.Add(time.Second)) || p.names() != "<><a><b>" {
		t.Fatalf("a run from before the refusal, or of another provider, proves nothing: %s", p.names())
	}
	p.note(offFor("b", time.Minute), "b/m", t0.Add(2*time.Second)) // refused again
	if p.served("b", t0.Add(time.Second)) {
		t.Fatal("it was refused again since")
	}
	if !p.served("b", t0.Add(3*time.Second)) || p.names() != "<a>" {
		t.Fatalf("after an answer of b, the default provider: %s", p.names())
	}
	if !p.lift() || p.lift() || p.names() != "" {
		t.Fatalf("after it was lifted: %s", p.names())
	}
}
