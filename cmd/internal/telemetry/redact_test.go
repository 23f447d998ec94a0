package telemetry_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/dash-fleet/dash/cmd/internal/telemetry"
	"github.com/dash-fleet/dash/messages"
)

const hidden = "s3cr3t-Value-0123456789"

func record(t testing.TB, format string, log func(*slog.Logger)) string {
	t.Helper()
	var b bytes.Buffer
	l, err := telemetry.NewLog(&b, telemetry.LogOptions{Level: "debug", Format: format})
	if err != nil {
		t.Fatal(err)
	}
	log(l.Logger)
	l.Close(time.Minute)
	return b.String()
}

type config struct {
	URL      string `json:"url"`
	Password string `json:"password"`
	Nested   struct {
		APIKey string
		Tokens []string
	}
}

type hostile struct{ name string }

func (h *hostile) String() string { return h.name } // panics on a nil pointer

func TestSecretsAreMasked(t *testing.T) {
	t.Parallel()
	nested := config{URL: "https://u:" + hidden + "@host/x", Password: hidden}
	nested.Nested.APIKey, nested.Nested.Tokens = hidden, []string{hidden}
	tests := map[string]func(*slog.Logger){
		"key":                 func(l *slog.Logger) { l.Info("m", "password", hidden) },
		"key in another case": func(l *slog.Logger) { l.Info("m", "Admin-API_Key", hidden) },
		"number":              func(l *slog.Logger) { l.Info("m", "password", json.Number(hidden)) },
		"authorization":       func(l *slog.Logger) { l.Info("m", "authorization", hidden) },
		"type":                func(l *slog.Logger) { l.Info("m", "value", messages.Secret(hidden)) },
		"type in a struct":    func(l *slog.Logger) { l.Info("m", "value", struct{ V messages.Secret }{hidden}) },
		"group":               func(l *slog.Logger) { l.Info("m", slog.Group("a", slog.Group("b", "token", hidden))) },
		"group of that name":  func(l *slog.Logger) { l.Info("m", slog.Group("credentials", "user", hidden)) },
		"open group":          func(l *slog.Logger) { l.WithGroup("secrets").Info("m", "user", hidden) },
		"open group, deeper":  func(l *slog.Logger) { l.WithGroup("secrets").WithGroup("a").With("b", hidden).Info("m") },
		"with":                func(l *slog.Logger) { l.With("token", hidden).Info("m") },
		"map":                 func(l *slog.Logger) { l.Info("m", "v", map[string]any{"a": []any{map[string]any{"apiKey": hidden}}}) },
		"map of texts":        func(l *slog.Logger) { l.Info("m", "v", map[string]string{"x-api-key": hidden}) },
		"header": func(l *slog.Logger) {
			l.Info("m", "v", http.Header{"Authorization": {"Bearer " + hidden}, "Cookie": {hidden}})
		},
		"struct":              func(l *slog.Logger) { l.Info("m", "v", nested) },
		"pointer":             func(l *slog.Logger) { l.Info("m", "v", &nested) },
		"valuer":              func(l *slog.Logger) { l.Info("m", "v", slog.GroupValue(slog.String("token", hidden))) },
		"message":             func(l *slog.Logger) { l.Info("sent Authorization: Bearer " + hidden) },
		"error":               func(l *slog.Logger) { l.Info("m", "err", fmt.Errorf("dial: %w", errors.New("token="+hidden))) },
		"url":                 func(l *slog.Logger) { l.Info("m", "v", "postgres://dash:"+hidden+"@db/dash") },
		"query":               func(l *slog.Logger) { l.Info("m", "v", "/events?since=1&token="+hidden+"&x=1") },
		"json text":           func(l *slog.Logger) { l.Info("m", "v", `{"id":1,"token":"`+hidden+`"}`) },
		"quoted json text":    func(l *slog.Logger) { l.Info("m", "v", `{\"password\":\"`+hidden+`\"}`) },
		"json bytes":          func(l *slog.Logger) { l.Info("m", "v", []byte(`{"secret":"`+hidden+`"}`)) },
		"raw json":            func(l *slog.Logger) { l.Info("m", "v", json.RawMessage(`{"auth":{"token":"`+hidden+`"}}`)) },
		"own key":             func(l *slog.Logger) { l.Info("m", "v", "dash_k1_"+hidden) },
		"own key in an error": func(l *slog.Logger) { l.Info("m", "err", errors.New("refused dash_k1_"+hidden)) },
		"as a key":            func(l *slog.Logger) { l.Info("m", "v", map[string]any{"Bearer " + hidden: 1}) },
	}
	for name, log := range tests {
		for _, format := range []string{"text", "json"} {
			t.Run(name+"/"+format, func(t *testing.T) {
				t.Parallel()
				if got := record(t, format, log); strings.Contains(got, hidden) || !strings.Contains(got, "redacted") {
					t.Errorf("logged %s", got)
				}
			})
		}
	}
}

func TestHarmlessValuesPass(t *testing.T) {
	t.Parallel()
	got := record(t, "json", func(l *slog.Logger) {
		l.Info("task finished", "input_tokens", 12, "usage", map[string]any{"output_tokens": 34}, "task", "0199-a", "duration", 1.5,
			"tokenizer_note", "", "url", "http://127.0.0.1:7373/api/v1/tasks", "err", errors.New("token refused by gateway"))
	})
	for _, want := range []string{`"input_tokens":12`, `"output_tokens":34`, `"task":"0199-a"`, `"url":"http://127.0.0.1:7373/api/v1/tasks"`, `"token refused by gateway"`} {
		if !strings.Contains(got, want) {
			t.Errorf("logged %s, want it to hold %s", got, want)
		}
	}
}

func TestOddValues(t *testing.T) {
	t.Parallel()
	cycle := map[string]any{}
	cycle["self"] = cycle
	var none *hostile
	got := record(t, "json", func(l *slog.Logger) {
		l.Info("m", "cycle", cycle, "channel", make(chan int), "nil", nil, "stringer", none, "long", strings.Repeat("x", 100_000))
	})
	if !json.Valid([]byte(got)) || len(got) > 40_000 {
		t.Errorf("logged %d bytes, valid JSON: %v", len(got), json.Valid([]byte(got)))
	}
}

func TestLevelAndFormat(t *testing.T) {
	t.Parallel()
	for _, o := range []telemetry.LogOptions{{Level: "loud"}, {Format: "xml"}} {
		if _, err := telemetry.NewLog(&bytes.Buffer{}, o); err == nil {
			t.Errorf("options %+v were accepted", o)
		}
	}
	for terminal, json := range map[bool]bool{true: false, false: true} {
		var b bytes.Buffer
		l, err := telemetry.NewLog(&b, telemetry.LogOptions{Format: "auto", Terminal: terminal})
		if err != nil {
			t.Fatal(err)
		}
		l.Debug("hidden")
		l.Info("seen")
		l.Close(time.Minute)
		if got := b.String(); strings.HasPrefix(got, "{") != json || strings.Contains(got, "hidden") {
			t.Errorf("terminal %v: logged %q", terminal, got)
		}
	}
}

// TestDurations: a duration carries its unit, also as JSON and inside a group.
func TestDurations(t *testing.T) {
	t.Parallel()
	for _, format := range []string{"text", "json"} {
		got := record(t, format, func(l *slog.Logger) {
			l.With("pause", 90*time.Second).Info("m", "took", 1500*time.Millisecond, slog.Group("g", "at_most", 2*time.Millisecond))
		})
		for _, want := range []string{"1.5s", "1m30s", "2ms"} {
			if !strings.Contains(got, want) {
				t.Errorf("%s: no %s in %s", format, want, got)
			}
		}
	}
}

func FuzzRedact(f *testing.F) {
	f.Add("password", "value", "note")
	f.Add("X-Auth-Token", "a\"b\\c", "k=v&token=")
	f.Add("secret\x00", "\xff\xfe", "{\"token\":\"")
	f.Fuzz(func(t *testing.T, key, value, note string) {
		secret := "Zq9-" + fmt.Sprintf("%x", value) + "-Zq9" // survives any quoting unchanged
		if strings.Contains(key+note, secret) || len(note) > 1000 {
			return
		}
		for _, format := range []string{"text", "json"} {
			got := record(t, format, func(l *slog.Logger) {
				g := l.WithGroup("g").With(key+"password", secret)
				g.Info(note, slog.Group(note, key+"_token", secret), "m", map[string]any{note: map[string]any{"apiKey" + key: secret}}, "s", messages.Secret(secret))
				l.Info("m", "text", note+` {"token":"`+secret+`"}`, "err", errors.New(note+" token="+secret), "head", note+" Bearer "+secret)
			})
			if strings.Contains(got, secret) {
				t.Errorf("%s: key %q, note %q: logged %s", format, key, note, got)
			}
			if strings.Count(got, "\n") != 2 {
				t.Errorf("%s: %d lines for two records: %q", format, strings.Count(got, "\n"), got)
			}
		}
	})
}
