package main

import (
	"strings"
	"testing"

	"github.com/dash-fleet/dash/http/api"
)

// A value that would silently mean something else is wrong usage, and nothing
// is asked of the API.
func TestSenselessValues(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	for _, args := range []string{
		"task list --session=", "task list --state=", "task list --label=", "task list --tenant=", "task list --limit -1",
		"task submit --message x --session=", "task submit --message x --timeout 0", "task submit --message x --max-attempts 0",
		"task submit --message x --max-attempts -1", "task replay --code= --yes", "session list --pool=", "session list --limit -1",
		"gateway add g --url ws://127.0.0.1:1 --max-concurrency 0", "gateway set g --max-concurrency 0", "gateway list --pool=", "pool set p",
		"pool set .. --aging 1", "pool show ..", "pool show a/b", "pool show . --queue",
	} {
		got := f.dash(t.Context(), "", strings.Fields(args)...)
		wantResult(t, got, exitUsage, "", "next: ")
	}
	if seen := f.requests(); len(seen) > 0 {
		t.Errorf("the API was asked: %q", seen)
	}
}

// Errors speak the words of the command.
func TestErrorsNameFlags(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	p := problem(422, "invalid_request", "/token is needed", "give it")
	p.Errors = &[]api.FieldError{{Pointer: "/token", Detail: "is needed"}}
	f.answer("POST /api/v1/gateways", 422, p)
	q := problem(422, "invalid_request", "/input/timeout_seconds number must be at most 86400 (and 1 more)", "mend it")
	q.Errors = &[]api.FieldError{{Pointer: "/input/timeout_seconds", Detail: "number must be at most 86400"}, {Pointer: "/labels", Detail: "too many"}}
	f.answer("POST /api/v1/tasks", 422, q)
	r := problem(422, "invalid_request", "/email must be an email address", "mend it")
	r.Errors = &[]api.FieldError{{Pointer: "/email", Detail: "must be an email address"}}
	f.answer("POST /api/v1/users", 422, r)
	s := problem(400, "invalid_request", "/id an id is short", "mend it")
	s.Errors = &[]api.FieldError{{Pointer: "/id", Detail: "an id is short"}}
	f.answer("POST /api/v1/sessions", 400, s)
	u := problem(400, "invalid_request", "query:state value is not one of the allowed values", "mend it")
	u.Errors = &[]api.FieldError{{Pointer: "query:state", Detail: "value is not one of the allowed values"}}
	f.answer("GET /api/v1/tasks", 400, u)
	f.answer("GET /api/v1/gateways", 200, page[api.Gateway]{Items: []api.Gateway{{Id: "g"}}})
	f.answer("GET /api/v1/gateways/g", 200, api.Gateway{Id: "g", State: api.GatewayStateReady})
	f.answer("PATCH /api/v1/gateways/g", 422, p)
	for args, want := range map[string]string{
		"user create bob --role user --password-file " + secretIn(t, "long enough"): "dash: the email must be an email address",
		"session create ..":                                                "dash: the id: an id is short",
		"gateway set g --url ws://127.0.0.1:2":                             "dash: --token-file is needed",
		"gateway set g --fresh":                                            "dash: one of --url, --token-file, --token-stdin",
		"gateway set g --here --node n":                                    "dash: only one of --here, --node can be given",
		"task release x":                                                   "dash: one of --requeue, --fail is needed",
		"gateway add g --url ws://127.0.0.1:1":                             "dash: --token is needed",
		"task submit --message x --timeout 100h":                           "dash: --timeout number must be at most 86400",
		"task submit --message x --max-attempts many":                      `dash: --max-attempts "many" is not a whole number`,
		"task submit --message x --timeout 5":                              `dash: --timeout "5" is not a duration such as 90s, 5m or 2h`,
		"task list --state bogus":                                          "dash: --state value is not one of",
		"task submit --message x --delay 5s --due-at 2027-01-01T00:00:00Z": "dash: only one of --due-at, --delay can be given",
		"task list --limit x":                                              `dash: --limit "x" is not a whole number`,
	} {
		got := f.dash(t.Context(), "", strings.Fields(args)...)
		if wantResult(t, got, exitUsage, "", want); strings.Contains(got.err, "strconv") || strings.Contains(got.err, " /") || strings.Count(got.err, "an id is short") > 1 {
			t.Errorf("%s: %s", args, got.err)
		}
	}
}

func TestUnknownHelpTopic(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	wantResult(t, f.dash(t.Context(), "", "help", "nosuch"), exitUsage, "", `dash help has no topic "nosuch"`, "dash --help")
	wantResult(t, f.dash(t.Context(), "", "help", "task", "nosuch"), exitUsage, "", `no topic "task nosuch"`)
	wantResult(t, f.dash(t.Context(), "", "help", "task", "submit"), 0, "--idempotency-key")
	wantResult(t, f.dash(t.Context(), "", "help"), 0, "strict priority order")
}

func TestReplayByFilterSpeaksTheFormat(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	f.answer("POST /api/v1/dead-letters/replay", 200, api.ReplayedDeadLetters{Matched: 3, Replayed: 3})
	wantResult(t, f.dash(t.Context(), "", "task", "replay", "--all", "--yes", "-o", "json"), 0, `"replayed": 3`)
	wantResult(t, f.dash(t.Context(), "", "task", "replay", "--all", "--dry-run", "-o", "json"), 0, `"matched": 3`)
}
