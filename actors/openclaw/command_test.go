package openclaw

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func sentMessage(t interface{ Fatal(...any) }, message string) string {
	b, err := AgentRequest{RunID: "r", SessionKey: "s", Message: message, Timeout: time.Second}.encode()
	if err != nil {
		t.Fatal(err)
	}
	var p struct{ Message string }
	if err := json.Unmarshal(b, &p); err != nil {
		t.Fatal(err)
	}
	return p.Message
}

func TestACommandBecomesData(t *testing.T) {
	t.Parallel()
	for _, command := range []string{
		"/reset", "/new", "/NEW", "/Reset hello", " \n\t/reset", "\u00a0/new", "\ufeff/reset", "\u200b/reset", "\u2800/new", "\x00/new",
		"/stop", "/model x", "/compact", "/status", "/",
	} {
		if got := sentMessage(t, command); got != CommandGuard+command {
			t.Errorf("%q is sent as %q", command, got)
		}
	}
	for _, text := range []string{"a /reset", "reset", "stop", "\uff0freset", "[x] /new", "! ls", "@main /reset", "Task:\n/reset", "   ", "<a href=\"/\">&"} {
		if got := sentMessage(t, text); got != text {
			t.Errorf("%q is sent as %q", text, got)
		}
	}
}

// TestEveryOtherTextIsUntouched: a text reaches the gateway byte by byte,
// unless a slash is the first thing in it that one sees.
func TestEveryOtherTextIsUntouched(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		lead := rapid.StringOf(rapid.SampledFrom([]rune(" \t\n\u00a0\ufeff\u200b\u2028"))).Draw(t, "lead")
		rest := rapid.String().Draw(t, "rest")
		if lead+rest == "" {
			t.Skip()
		}
		got := sentMessage(t, lead+rest)
		switch got {
		case lead + rest:
			if seen := strings.TrimFunc(lead+rest, func(r rune) bool { return !visible(r) }); strings.HasPrefix(seen, "/") {
				t.Fatalf("a command was sent: %q", got)
			}
		case CommandGuard + lead + rest:
			if seen := strings.TrimFunc(lead+rest, func(r rune) bool { return !visible(r) }); !strings.HasPrefix(seen, "/") {
				t.Fatalf("%q was changed", lead+rest)
			}
		default:
			t.Fatalf("%q is sent as %q", lead+rest, got)
		}
	})
}
