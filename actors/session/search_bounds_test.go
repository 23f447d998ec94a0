package session

import (
	"os"
	"runtime"
	"runtime/debug"
	"testing"
	"time"

	"github.com/dash-fleet/dash/messages"
)

// searchCase is one search with what it must at least have seen.
type searchCase struct {
	bounds
	deep bool // only with DASH_SEARCH=deep
	sees []messages.TaskState
}

var (
	seesEnd    = []messages.TaskState{messages.Succeeded}
	seesCancel = []messages.TaskState{messages.Succeeded, messages.Cancelled}
	seesCrash  = []messages.TaskState{messages.Succeeded, messages.DeadLetter}
	seesHeld   = []messages.TaskState{messages.Succeeded, messages.Held}
)

func searchCases() []searchCase {
	one := func(name string, b budget) bounds { return bounds{name: name, claims: 1, gateways: 1, budget: b} }
	two := func(name string, b budget) bounds { return bounds{name: name, claims: 2, gateways: 1, budget: b} }
	move := func(name string, b budget) bounds { return bounds{name: name, claims: 2, gateways: 2, budget: b} }
	hold := func(name string, b budget) bounds {
		h := move(name, b)
		h.hold = true
		return h
	}
	thrown := two("throw-away session", budget{crashes: 1, deadlines: 1})
	thrown.throwAway = true
	merges := func(name string, b budget) bounds {
		m := one(name, b)
		m.throwAway, m.merges = true, true
		return m
	}
	boot := one("take-over, boot id in the claim", budget{crashes: 1, takeovers: 1})
	boot.claimBoot = true
	// A node on another host takes over, and the gateway's home comes back.
	host := func(name string, hold bool, gateways int, b budget) bounds {
		b.takeovers, b.homes = 1, 1
		return bounds{name: name, claims: gateways, gateways: gateways, hold: hold, elsewhere: true, budget: b}
	}
	deaths := func(n uint8, m bounds) bounds {
		m.deaths = n
		return m
	}
	return []searchCase{
		{bounds: one("no fault", budget{}), sees: seesEnd},
		{bounds: one("crashes", budget{crashes: 2, losses: 1, dropInput: 1}), sees: seesEnd},
		{bounds: one("cancel", budget{crashes: 1, losses: 1, cancels: 1}), sees: seesCancel},
		{bounds: one("cancel, crashes", budget{crashes: 2, cancels: 1}), sees: seesCancel},
		{bounds: one("take-over, crash", budget{crashes: 1, takeovers: 1}), sees: seesEnd},
		{bounds: two("errors", budget{crashes: 1, errors: 1, losses: 1}), sees: seesEnd},
		{bounds: two("provider switched off", budget{crashes: 1, offs: 1, losses: 1}), sees: seesEnd},
		{bounds: two("provider switched off, cancel", budget{offs: 1, cancels: 1}), sees: seesCancel},
		{bounds: two("deadline", budget{crashes: 1, deadlines: 1}), sees: seesEnd},
		{bounds: two("refusal", budget{losses: 1, refusals: 1, notSent: 1}), sees: seesEnd},
		{bounds: two("take-over, unsent", budget{takeovers: 1, notSent: 1}), sees: seesEnd},
		{bounds: two("store errors", budget{storeErrors: 1, errors: 1, crashes: 1}), sees: seesEnd},
		{bounds: one("store errors, cancel", budget{storeErrors: 1, cancels: 1, crashes: 1}), sees: seesCancel},
		{bounds: hold("hold, crash, cancel", budget{crashes: 1, aways: 1, cancels: 1}), sees: seesHeld},
		{bounds: hold("hold, loss", budget{losses: 1, aways: 1, errors: 1}), sees: seesHeld},
		{bounds: move("move after a crash", budget{crashes: 1, aways: 1}), sees: seesEnd},
		{bounds: thrown, sees: seesEnd},
		{bounds: merges("re-run that takes the text", budget{crashes: 1, takeovers: 1}), sees: seesEnd},
		{bounds: merges("re-run that takes the text, crashes", budget{crashes: 2}), sees: seesEnd},
		{bounds: merges("re-run that takes the text, crash, stop", budget{crashes: 1, stops: 1}), sees: seesEnd},
		{bounds: host("wrong host, home comes back", false, 1, budget{}), sees: seesEnd},
		{bounds: host("wrong host, hold", true, 1, budget{}), sees: seesHeld},

		{deep: true, bounds: host("wrong host, hold, crash", true, 1, budget{crashes: 1}), sees: seesHeld},
		{deep: true, bounds: host("wrong host, cancel", true, 1, budget{cancels: 1}), sees: seesCancel},
		{deep: true, bounds: host("wrong host, requeue elsewhere", false, 2, budget{}), sees: seesEnd},
		{deep: true, bounds: host("wrong host, requeue elsewhere, crash", false, 2, budget{crashes: 1}), sees: seesEnd},
		{deep: true, bounds: host("wrong host, hold, loss, error", true, 1, budget{losses: 1, errors: 1}), sees: seesHeld},
		{deep: true, bounds: host("wrong host, deadline", false, 1, budget{deadlines: 1}), sees: seesEnd},
		{bounds: one("deaths", budget{crashes: 3}), sees: seesCrash},
		{bounds: deaths(2, one("suspect, crashes, loss", budget{crashes: 2, losses: 1})), sees: seesCrash},
		{bounds: deaths(2, one("suspect, take-over", budget{crashes: 1, takeovers: 1})), sees: seesCrash},
		{bounds: deaths(2, one("suspect, crash, stop", budget{crashes: 1, stops: 1})), sees: seesCrash},
		{bounds: deaths(2, two("suspect, deadline", budget{crashes: 1, deadlines: 1})), sees: seesCrash},
		{bounds: deaths(1, one("deaths, cancel", budget{crashes: 2, cancels: 1})), sees: append(seesCrash, messages.Cancelled)},

		{deep: true, bounds: deaths(2, two("suspect, stop, deadline", budget{crashes: 1, stops: 1, deadlines: 1})), sees: seesCrash},
		{deep: true, bounds: deaths(1, one("deaths, take-over", budget{crashes: 2, takeovers: 1})), sees: seesCrash},
		{deep: true, bounds: deaths(1, one("deaths, store errors, loss", budget{crashes: 2, losses: 1, storeErrors: 1})), sees: seesCrash},
		{deep: true, bounds: boot, sees: seesEnd},
		{deep: true, bounds: merges("re-run that takes the text, take-over, crashes", budget{crashes: 2, takeovers: 1}), sees: seesEnd},
		{deep: true, bounds: move("move after a loss", budget{losses: 1, aways: 1}), sees: seesEnd},
		{deep: true, bounds: one("take-over, cancel", budget{cancels: 1, takeovers: 1}), sees: seesCancel},
		{deep: true, bounds: one("take-over, deadline", budget{deadlines: 1, takeovers: 1}), sees: seesEnd},
		{deep: true, bounds: two("take-over, error", budget{errors: 1, takeovers: 1}), sees: seesEnd},
		{deep: true, bounds: two("deadline, loss", budget{crashes: 1, deadlines: 1, losses: 1}), sees: seesEnd},
		{deep: true, bounds: one("take-over, refusal", budget{takeovers: 1, refusals: 1}), sees: seesEnd},
		{deep: true, bounds: one("take-over, loss, forgotten result", budget{forget: 1, losses: 1, takeovers: 1}), sees: seesEnd},
		{deep: true, bounds: hold("hold, take-over", budget{aways: 1, takeovers: 1}), sees: seesHeld},
		{deep: true, bounds: hold("hold, take-over, loss", budget{losses: 1, aways: 1, takeovers: 1}), sees: seesHeld},
		{deep: true, bounds: one("take-over, crash, cancel", budget{crashes: 1, cancels: 1, takeovers: 1}), sees: seesCancel},
		{deep: true, bounds: one("take-over, crashes", budget{crashes: 2, takeovers: 1}), sees: seesEnd},
	}
}

// TestSearch visits every world within its bounds and finds none that breaks a
// rule and none from which the task cannot come to an end. DASH_SEARCH=deep
// adds bounds that take minutes.
func TestSearch(t *testing.T) {
	defer debug.SetGCPercent(debug.SetGCPercent(400))
	deep := os.Getenv("DASH_SEARCH") == "deep"
	for _, c := range searchCases() {
		if c.deep && !deep {
			continue
		}
		t.Run(c.name, func(t *testing.T) {
			limit := 12_000_000
			if raceDetector { // the search has one goroutine: what the detector could find, it finds early
				limit = 20_000
			}
			at := time.Now()
			f := explore(c.bounds, limit)
			t.Logf("%v %v", time.Since(at).Round(time.Millisecond), f)
			if f.bad > 0 || f.stuck > 0 {
				t.Errorf("%d bad and %d stuck states", f.bad, f.stuck)
			}
			if f.cut && !raceDetector {
				t.Errorf("not exhaustive: more than %d states", limit)
			}
			for _, s := range c.sees {
				if f.ends[s] == 0 && !f.cut {
					t.Errorf("no path ends %v: the search does not search", s)
				}
			}
			runtime.GC()
		})
	}
}

// TestSearchFindsMissingRules switches one rule off at a time: the search must
// then find broken states, so it can fail.
func TestSearchFindsMissingRules(t *testing.T) {
	crash := bounds{claims: 1, gateways: 1, budget: budget{crashes: 1, losses: 1, dropInput: 1}}
	take := bounds{claims: 2, gateways: 1, budget: budget{takeovers: 1, notSent: 1}}
	suspect := bounds{claims: 1, gateways: 1, deaths: 2, budget: budget{crashes: 2}}
	kept := map[bounds]found{}
	for _, c := range []struct {
		name string
		bounds
		off off
	}{
		{"(a) the same run id for every send of a claim", crash, off{rules: rules{a: true}}},
		{"(b) a send is never carried over to another process", crash, off{b: true}},
		{"(c) read before any send", crash, off{rules: rules{c: true}}},
		{"(d) grace for the gateway's own re-run", crash, off{rules: rules{grace: true}}},
		{"(d) a new generation where the input left remains", crash, off{rules: rules{anew: true}}},
		{"(d) a re-run that took the interrupted text is known by its place",
			bounds{claims: 1, gateways: 1, throwAway: true, merges: true, budget: budget{crashes: 1, losses: 1}}, off{rules: rules{place: true}}},
		{"(d) a claim found without a boot id may be of another process",
			bounds{claims: 1, gateways: 1, budget: budget{crashes: 1, takeovers: 1}}, off{rules: rules{boot: true}}},
		{"(e) a claim found at a take-over counts as sent", take, off{e: true}},
		{"(e) an abort that names nothing confirms nothing",
			bounds{claims: 1, gateways: 1, budget: budget{cancels: 1, losses: 1}}, off{rules: rules{proof: true}}},
		{"(e) only the refusal of the only send is evidence",
			bounds{claims: 2, gateways: 1, budget: budget{losses: 1, refusals: 1}}, off{rules: rules{refusal: true}}},
		{"(e) evidence counts under the fence of who gave it", take, off{pFence: true}},
		{"only its home starts and dials a gateway",
			bounds{claims: 1, gateways: 1, hold: true, elsewhere: true, budget: budget{takeovers: 1, homes: 1}}, off{home: true}},
		{"(f) a new generation after an abort",
			bounds{claims: 2, gateways: 1, budget: budget{deadlines: 1}}, off{rules: rules{f: true}}},
		{"(g) a suspect runs alone", suspect, off{rules: rules{alone: true}}},
		{"(g) a suspect's re-run is stopped before it is sent or ends", suspect, off{rules: rules{quiet: true}}},
		{"(g) the end of a process that was stopped is no death",
			bounds{claims: 1, gateways: 1, budget: budget{stops: 1}}, off{rules: rules{planned: true}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			limit := 400_000
			if raceDetector || c.off.home { // the first breach comes early
				limit = 60_000
			}
			whole, ok := kept[c.bounds]
			if !ok {
				whole = explore(c.bounds, limit)
				kept[c.bounds] = whole
			}
			c.bounds.off = c.off
			f := explore(c.bounds, limit)
			t.Logf("with the rule %d states, %d bad; without %v", whole.states, whole.bad, f)
			if whole.bad > 0 || f.bad == 0 {
				t.Errorf("bad states: %d with the rule, %d without", whole.bad, f.bad)
			}
		})
	}
}
