package server

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/dash-fleet/dash/http/api"
	"github.com/dash-fleet/dash/messages"
)

var submitOp = func() *operation {
	d, err := loadDocument()
	if err != nil {
		panic(err)
	}
	return d.ops["submitTask"]
}()

// bySchema reads a submit the slow way.
func bySchema(raw []byte) (b api.SubmitTask, err error) {
	tree, err := parse(raw)
	if err != nil {
		return b, err
	}
	if err := submitOp.checkBody(tree); err != nil {
		return b, err
	}
	return b, decode(raw, &b)
}

// agreeOn fails when the fast way accepts what the schema does not, or
// understands it differently.
func agreeOn(t interface {
	Helper()
	Fatalf(string, ...any)
}, raw []byte) (fast bool) {
	t.Helper()
	var got api.SubmitTask
	if !decodeSubmit(raw, &got) {
		return false
	}
	want, err := bySchema(raw)
	if err != nil {
		t.Fatalf("the fast way accepts what the schema refuses (%v): %q", err, raw)
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Fatalf("the two ways differ (-schema +fast) on %q:\n%s", raw, d)
	}
	return true
}

const fullSubmit = `{"priority":"high","tenant":"default","pool":"default","session":"s-1",` +
	`"input":{"message":"Say \"hi\" \u00e9\ud83d\ude00","model":"openai/gpt-5","timeout_seconds":60},"delay_seconds":1.5,` +
	`"not_after":"2099-01-01T00:00:00+02:00","max_attempts":5,"on_unknown":"hold","labels":{"team":"search"}}`

func TestFastSubmitIsTaken(t *testing.T) {
	t.Parallel()
	for _, s := range []string{fullSubmit, `{"priority":"low","input":{"message":"x"}}`, " {\n\"input\" : {\"message\":\"x\"}, \"priority\":\"critical\"} "} {
		if !agreeOn(t, []byte(s)) {
			t.Errorf("not taken the fast way: %s", s)
		}
	}
}

// Random bodies, right and wrong: a value for each field from a bag that holds
// values of every kind.
func TestFastSubmitAgreesWithTheSchema(t *testing.T) {
	t.Parallel()
	values := []string{
		`"high"`, `"medium"`, `"urgent"`, `""`, `"a b"`, `"s-1"`, `"` + strings.Repeat("x", 129) + `"`, `1`, `0`, `-1`, `1.0`, `1e2`, `100`, `101`, `86401`,
		`null`, `true`, `{}`, `[]`, `{"a":"b"}`, `{"a":1}`, `{"a":"b","a":"c"}`, `"2099-01-01T00:00:00Z"`, `"2099-01-01"`, `"requeue"`, `"hold"`,
		`{"message":"x"}`, `{"message":""}`, `{"message":"x","extra":1}`, `{"message":"x","timeout_seconds":1.0}`, `{"message":"x","model":"m"}`, `{"message":"\u0000"}`,
		`{"message":"x","timeout_seconds":30}`, `{"message":"` + strings.Repeat("é", 300) + `"}`, `0.5`, `31536001`,
	}
	names := []string{"priority", "input", "tenant", "pool", "session", "due_at", "delay_seconds", "not_after", "max_attempts", "on_unknown", "labels", "backoff", "requires", "other"}
	good := map[string]string{"priority": `"high"`, "input": `{"message":"x"}`}
	rapid.Check(t, func(t *rapid.T) {
		var fields []string
		for _, n := range []string{"priority", "input"} {
			v := good[n]
			if rapid.IntRange(0, 3).Draw(t, "wrong") == 0 {
				v = rapid.SampledFrom(values).Draw(t, n)
			}
			fields = append(fields, `"`+n+`":`+v)
		}
		for range rapid.IntRange(0, 4).Draw(t, "fields") {
			fields = append(fields, `"`+rapid.SampledFrom(names).Draw(t, "name")+`":`+rapid.SampledFrom(values).Draw(t, "value"))
		}
		agreeOn(t, []byte("{"+strings.Join(fields, ",")+"}"))
	})
}

func FuzzSubmit(f *testing.F) {
	for _, s := range []string{fullSubmit, `{"priority":"low","input":{"message":"x"}}`, `{`, `{"input":{"message":"\ud800"}}`, "{\"priority\":\"\xff\"}", `[1e999]`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		agreeOn(t, raw)
		tree, err := parse(raw)
		if err != nil {
			return
		}
		// What is accepted, encoding/json must read in the same way.
		var want any
		if err := json.Unmarshal(raw, &want); err != nil {
			t.Fatalf("accepted, but encoding/json says %v: %q", err, raw)
		}
		if d := cmp.Diff(want, tree); d != "" {
			t.Fatalf("read differently (-json +scan): %s", d)
		}
		b, err := bySchema(raw)
		if err == nil {
			if _, err := submitRequest(&b, time.Unix(0, 0)); err != nil && messages.CodeOf(err) == messages.CodeInternal {
				t.Fatalf("a check fails without a code: %v", err)
			}
		}
	})
}

func TestParseIsStrict(t *testing.T) {
	t.Parallel()
	deep := strings.Repeat("[", 33) + strings.Repeat("]", 33)
	for text, pointer := range map[string]string{
		``: "", `{`: "", `{"a":1,"a":2}`: "/a", `{"a":{"b":1,"b":1}}`: "/a/b", `{"a":01}`: "", `{"a":1}x`: "", `{"a":.5}`: "/a",
		`{"a":"` + "\x01" + `"}`: "/a", "{\"a\":\"\xff\"}": "/a", `{"a":"\u0000"}`: "/a", `{"a":"\ud800"}`: "/a", `{"a":"\x"}`: "/a",
		`{"a":1e999}`: "/a", `{"a":nul}`: "/a", `{"a":[1,]}`: "/a/1", `{"a":1,}`: "", deep: strings.Repeat("/0", 32), `{"a/b~":tru}`: "/a~1b~0", `"x`: "", `-`: "", `1.`: "", `1e`: "",
	} {
		_, err := parse([]byte(text))
		var syntax *syntaxError
		if !errors.As(err, &syntax) {
			t.Errorf("%q is accepted", text)
		} else if syntax.pointer != pointer {
			t.Errorf("%q: points at %q, want %q (%v)", text, syntax.pointer, pointer, err)
		}
	}
}

func TestSubmitDefaultsAndRules(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 21, 0, 0, 0, 0, time.UTC)
	read := func(s string) (SubmitRequest, error) {
		b, err := bySchema([]byte(s))
		if err != nil {
			return SubmitRequest{}, err
		}
		return submitRequest(&b, now)
	}
	r, err := read(`{"priority":"low","input":{"message":"x"},"delay_seconds":2.5,"backoff":{"max_seconds":0.5}}`)
	if err != nil {
		t.Fatal(err)
	}
	s := r.Spec
	if s.TimeoutSeconds != 600 || s.MaxAttempts != 3 || s.OnUnknown != "requeue" || r.Class != messages.Low || !r.DueAt.Equal(now.Add(2500*time.Millisecond)) {
		t.Errorf("defaults: %+v %+v", r, s)
	}
	if b := s.Backoff; b.InitialSeconds != 0.5 || b.MaxSeconds != 0.5 || b.Factor != 2 || b.Jitter != 0.2 {
		t.Errorf("backoff: %v", b)
	}
	for body, pointer := range map[string]string{
		`{"priority":"low","input":{"message":"x"},"due_at":"2027-01-01T00:00:00Z","delay_seconds":1}`:                  "/delay_seconds",
		`{"priority":"low","input":{"message":"x"},"not_after":"2020-01-01T00:00:00Z"}`:                                 "/not_after",
		`{"priority":"low","input":{"message":"x"},"due_at":"2027-01-01T00:00:00Z","not_after":"2026-12-01T00:00:00Z"}`: "/not_after",
		`{"priority":"low","input":{"message":"x"},"labels":{"bad name":"x"}}`:                                          "/labels/bad name",
		`{"priority":"low","input":{"message":"x"},"backoff":{"initial_seconds":5,"max_seconds":1}}`:                    "/backoff/max_seconds",
		`{"priority":"urgent","input":{"message":"x"}}`:                                                                 "/priority",
		`{"priority":"low","input":{"message":1}}`:                                                                      "/input/message",
		`{"priority":"low","input":{"message":"x","extra":1}}`:                                                          "/input",
		`{"priority":"low","input":{"message":"x"},"requires":{"capabilities":["ok","not ok"]}}`:                        "/requires/capabilities/1",
		`{"priority":"low","input":{"message":"x"},"not_after":"tomorrow"}`:                                             "/not_after",
		`{"priority":"low"}`: "/input",
	} {
		_, err := read(body)
		var e *messages.Error
		if !errors.As(err, &e) || e.Code != messages.CodeInvalid {
			t.Errorf("%s: %v", body, err)
			continue
		}
		if len(e.Fields) == 0 || !strings.HasPrefix(e.Fields[0].Pointer, pointer) {
			t.Errorf("%s: points at %+v, want %s", body, e.Fields, pointer)
		}
	}
	if _, err := read(`{"priority":"low","input":{"message":"` + strings.Repeat("é", 200_000) + `"}}`); messages.CodeOf(err) != messages.CodeTooLarge {
		t.Errorf("400,000 bytes in 200,000 characters: %v", err)
	}
}

func BenchmarkDecodeSubmit(b *testing.B) {
	raw := []byte(`{"priority":"high","session":"s-1","input":{"message":"` + strings.Repeat("word ", 40) + `"},"labels":{"team":"search"}}`)
	b.Run("fast", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			var t api.SubmitTask
			if !decodeSubmit(raw, &t) {
				b.Fatal("refused")
			}
		}
	})
	b.Run("schema", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := bySchema(raw); err != nil {
				b.Fatal(err)
			}
		}
	})
}
