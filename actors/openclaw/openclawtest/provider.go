package openclawtest

import (
	"fmt"
	"math"
	"strings"
	"time"
)

// The providers of a simulated gateway are those that its tasks name; these two
// are special.
const (
	defaultProvider = "fake"
	unknownProvider = "nosuch"   // is not configured
	refusing        = "refusing" // nobody listens at its address
)

// provider is the provider and model of a run.
func (r *run) provider() (provider, model string) {
	provider, model, found := strings.Cut(r.model, "/")
	if !found {
		return defaultProvider, cmpOr(r.model, "fake-1")
	}
	return provider, model
}

// How long a gateway asks a provider nothing after it refused the key, and
// after its account was used up. It survives a restart.
const (
	offAuth    = 30 * time.Second
	offBilling = 600 * time.Second
)

// switchOff makes every run of the provider fail at once for a while.
func (st *store) switchOff(provider string, until time.Time) {
	st.off[provider] = until.UnixMilli()
	st.put(record{Op: "off", Key: provider, Off: until.UnixMilli()})
}

func (st *store) offFor(provider string) time.Duration {
	return time.Until(time.UnixMilli(st.off[provider]))
}

// disabled is the answer to a run of a provider that is off, without a model call.
func disabled(provider string, left time.Duration) outcome {
	n := max(1, int(math.Ceil(left.Minutes())))
	unit := "minutes"
	if n == 1 {
		unit = "minute"
	}
	return outcome{kind: kindFailed, fail: &failure{message: fmt.Sprintf(
		"Inline API key for provider %q is temporarily disabled after a provider auth/billing failure. Retry after about %d %s, or switch to a different auth profile/API key.",
		provider, n, unit)}}
}

func failureFor(mode, provider, model string) *failure {
	head := "⚠️ " + provider + "/" + model + " request failed "
	const later = " This is usually temporary — try again shortly."
	switch mode {
	case "400":
		return &failure{message: "LLM request failed: provider rejected the request schema or tool payload.", reason: "format"}
	case "404":
		return &failure{message: "The selected model was not found by the provider. Check the model id or choose a different model.", reason: "model_not_found"}
	case "model":
		return &failure{message: "Unknown model: " + provider + "/" + model + ". Run `openclaw models list --refresh --provider " + provider + "` to inspect this provider's model choices."}
	case "401":
		return &failure{message: head + "(authentication failed, HTTP 401). Re-authenticate the provider and try again.", reason: "auth"}
	case "402", "quota":
		return &failure{message: "⚠️ " + provider + " (" + model + ") returned a billing error — your API key has run out of credits or has an insufficient balance.", reason: "billing"}
	case "429":
		return &failure{message: "⚠️ API rate limit reached. Please try again later.", reason: "rate_limit", kind: "rate_limit", status: 429}
	case "cut":
		return &failure{message: "LLM request timed out.", reason: "timeout", kind: "timeout"}
	case "reset":
		return &failure{message: "LLM request failed: network connection error.", reason: "timeout", kind: "timeout"}
	case refusing:
		return &failure{message: "LLM request failed: connection refused by the provider endpoint.", reason: "timeout", kind: "timeout"}
	case "empty":
		return &failure{message: "⚠️ Agent couldn't generate a response. Please try again.", soft: "incomplete_turn", why: "⚠️ Agent couldn't generate a response. Please try again."}
	case "filter":
		return &failure{message: "⚠️ Agent run failed (model: " + provider + "/" + model + ").", soft: "incomplete_turn", why: "Provider finish_reason: content_filter"}
	case "refuse":
		const text = "The provider refused this request. Revise the request and try again."
		return &failure{message: text, soft: "incomplete_turn", why: text}
	case "overflow":
		return &failure{message: "Context overflow: prompt too large for the model. Try /reset (or /new) to start a fresh session, or use a larger-context model.",
			reason: "context_overflow", soft: "context_overflow", why: "400 This model's maximum context length is 128000 tokens. However, your messages resulted in 200000 tokens."}
	case "423":
		return &failure{message: "423 fake provider failure 423", soft: "incomplete_turn", why: "423 fake provider failure 423"}
	default:
		return &failure{message: head + "(provider internal error, HTTP 500)." + later, reason: "server_error"}
	}
}

// pauses are the gateway's own retries of a provider that keeps failing; nil
// where it does not ask again.
func pauses(mode string) []time.Duration {
	list := []time.Duration{1, 1, 4, 10, 16, 31}
	switch mode {
	case "400", "401", "402", "404", "quota", "refuse", "overflow":
		return nil
	case "empty":
		return []time.Duration{0}
	case "filter", "423":
		return []time.Duration{0, 1, 1}
	case "429":
		list = append(list, 31, 31, 31)
	case "cut":
		list = append(list, 15)
	case "reset", refusing:
		list = append(list, 8)
	}
	return list
}

// command reports whether the gateway takes a message for a command instead of
// asking the model, and what is left of it. It trims as JavaScript does.
func command(message string) (rest string, is bool) {
	text := strings.TrimFunc(message, jsSpace)
	for _, name := range []string{"/new", "/reset"} {
		if len(text) < len(name) || !strings.EqualFold(text[:len(name)], name) {
			continue
		}
		rest := text[len(name):]
		if trimmed := strings.TrimLeftFunc(rest, jsSpace); rest == "" || trimmed != rest {
			return trimmed, true
		}
	}
	return "", false
}

func jsSpace(r rune) bool {
	switch r {
	case '\t', '\n', '\v', '\f', '\r', ' ', 0xa0, 0x1680, 0x2028, 0x2029, 0x202f, 0x205f, 0x3000, 0xfeff:
		return true
	}
	return r >= 0x2000 && r <= 0x200a
}
