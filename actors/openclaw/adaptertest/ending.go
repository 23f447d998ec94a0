package adaptertest

import (
	"strings"
	"time"

	"github.com/dash-fleet/dash/actors/openclaw"
	"github.com/dash-fleet/dash/actors/openclaw/fakemodel"
	"github.com/dash-fleet/dash/actors/openclaw/livetest"
)

func at(provider string) string { return provider + "/" + fakemodel.Model }

// testEndings: a run that went wrong ends with its own frame, which says why
// and is the end: agent.wait agrees.
func testEndings(b *bench) {
	c, _ := b.dial()
	for _, tt := range []struct {
		name, message, model string
		class                openclaw.FailureClass
		says                 string
		usage                bool
	}{
		{"empty", "say nothing [[fail=empty]]", "", openclaw.ClassEmpty, "couldn't generate a response", true},
		{"no_reply", "say nothing [[reply=NO_REPLY]]", "", openclaw.ClassEmpty, "couldn't generate a response", true},
		{"filter", "be filtered [[fail=filter]]", "", openclaw.ClassFilter, "content_filter", true},
		{"refusal", "be refused [[fail=refuse]]", at(livetest.Anthropic), openclaw.ClassRefused, "refus", true},
		{"overflow", "too long [[fail=overflow]]", "", openclaw.ClassOverflow, "maximum context length", false},
		{"unknown_status", "locked [[fail=423]]", "", openclaw.ClassUnknown, "423 fake provider failure 423", false},
		{"model", "nobody has it [[fail=404]]", "", openclaw.ClassModel, "not found", false},
		{"provider", "nobody has it", at("nosuch"), openclaw.ClassModel, "Unknown model: nosuch/", false},
	} {
		b.sub(tt.name, func(b *bench) {
			r := b.sendTo(c, b.session(), runID(), tt.message, tt.model)
			f := r.failed(tt.class)
			if !f.Final || f.BeforeAccept || !strings.Contains(f.Message, tt.says) {
				b.Errorf("failure %+v, want it to say %q", f, tt.says)
			}
			if tt.usage && (f.Usage == nil || f.Usage.Input <= 0) {
				b.Errorf("usage %+v, want what the run cost", f.Usage)
			}
			if s := b.wait(c, r.id); !s.Over() || s.Succeeded() && s.HasText || s.Aborted() { // 2026.8: a silent one went well
				b.Errorf("agent.wait %+v", s)
			}
		})
	}
}

// testUsage: what was read from the cache is told beside the input, in the same
// way for all APIs.
func testUsage(b *bench) {
	c, _ := b.dial()
	for _, provider := range []string{livetest.Provider, livetest.Anthropic, livetest.Responses} {
		r := b.sendTo(c, b.session(), runID(), "a cheap one [[cached=200]]", at(provider))
		a := r.final()
		u := a.Usage
		if u == nil || u.CacheRead != 200 || u.Input <= 0 || u.Total != u.Input+u.CacheRead+u.CacheWrite+u.Output || a.Meta.Provider != provider {
			b.Errorf("%s: usage %+v, meta %+v", provider, u, a.Meta)
		}
	}
}

// testCommands: what a task says is data, though a bare command would be
// carried out.
func testCommands(b *bench) {
	c, _ := b.dial()
	key := b.session()
	b.send(c, key, runID(), "the first turn").final()
	for i, text := range []string{"/reset", " \n/RESET", "/new", "/New with more", "\ufeff/new", "\u00a0/reset", "/stop", "/model x/y", "/compact", "/status", "stop", "! ls"} {
		a := b.send(c, key, runID(), text).final()
		if said := strings.TrimSpace(strings.Trim(text, "\ufeff\u00a0")); !strings.Contains(a.Text, said) || !strings.HasPrefix(a.Text, "ECHO(") || strings.HasPrefix(a.Text, "ECHO(1)") {
			b.Errorf("%d. %q: reply %q, want the model's with the whole history", i, text, a.Text)
		}
	}
	raw := map[string]any{"message": " \n/Reset", "idempotencyKey": runID(), "sessionKey": key, "timeout": 60}
	b.ok("a bare command", c.Call(b.ctx, "agent", raw, nil))
	b.until("the bare command wipes the history", patience, func() bool {
		return !b.history(c, key).Active && len(b.history(c, key).Items) < 5
	})
}

// testProviderOff: a provider that refused the key, or the account, is not asked
// for a while; the answer says so and for how long. Others go on, and a restart
// changes nothing.
func testProviderOff(b *bench) {
	c, _ := b.dial()
	spoilt := at(livetest.Spoilt)
	f := b.sendTo(c, b.session(), runID(), "wrong key [[fail=401]]", spoilt).failed(openclaw.ClassAuth)
	if f.NoCall || f.Provider != livetest.Spoilt || f.Pause != 30*time.Second {
		b.Errorf("after a 401: %+v", f)
	}
	f = b.sendTo(c, b.session(), runID(), "innocent", spoilt).failed(openclaw.ClassAuth)
	if !f.NoCall || f.Provider != livetest.Spoilt || f.Pause < time.Minute || f.Pause > 2*time.Minute {
		b.Errorf("while it is off: %+v", f)
	}
	b.send(c, b.session(), runID(), "of another provider").final()

	spent := at(livetest.Spent)
	f = b.sendTo(c, b.session(), runID(), "no money [[fail=402]]", spent).failed(openclaw.ClassAuth)
	if f.NoCall || f.Provider != livetest.Spent || f.Pause != 10*time.Minute {
		b.Errorf("after a 402: %+v", f)
	}
	b.restart()
	c, _ = b.dial()
	f = b.sendTo(c, b.session(), runID(), "innocent", spent).failed(openclaw.ClassAuth)
	if !f.NoCall || f.Provider != livetest.Spent || f.Pause < time.Minute {
		b.Errorf("after a restart: %+v", f)
	}
}

// testTrouble: a provider that fails is named at once, while the gateway goes on
// asking it.
func testTrouble(b *bench) {
	if strings.HasPrefix(b.Version, "2026.8.") {
		b.Skip("2026.8 tells of a failed model call only by the run's end, which comes within seconds")
	}
	c, rec := b.dial()
	r := b.send(c, b.session(), runID(), "out of order [[fail=500]]").accepted()
	b.until("the failed call is told", patience, func() bool { return len(rec.troubles(r.id)) > 0 })
	p := rec.troubles(r.id)[0]
	if p.Terminal() || p.Details.FailoverReason != "server_error" || p.Details.Provider != livetest.Provider || p.Error == "" {
		b.Errorf("trouble %+v", p)
	}
	select {
	case a := <-r.answers:
		b.Errorf("the run is over already: %s %v", a.Kind, a.Failure)
	default:
	}
	b.abort(c, r.key)
	r.failed(openclaw.ClassAborted)
}

// testNoTimeLimit: connections that are cut, reset or refused are the
// provider's failures, not a time limit.
func testNoTimeLimit(b *bench) {
	c, _ := b.dial()
	runs := map[string]*run{
		"cut":     b.send(c, b.session(), runID(), "cut off [[fail=cut]]"),
		"reset":   b.send(c, b.session(), runID(), "hung up [[fail=reset]]"),
		"refused": b.sendTo(c, b.session(), runID(), "nobody there", at(livetest.Refusing)),
	}
	for name, r := range runs {
		r.patience = 3 * patience // the gateway tries for 90 s, on a fast machine
		if f := r.failed(openclaw.ClassProvider); !f.Final {
			b.Errorf("%s: %+v", name, f)
		}
	}
}
