package openclaw

import (
	"fmt"
	"strings"
)

// Trouble says in words which model call of a run has failed while the run goes
// on, because the gateway asks the provider again by itself; empty if none has.
func (p RunPhase) Trouble() string {
	if p.Phase != "finishing" || p.Error == "" || p.Details == (ErrorDetails{}) {
		return ""
	}
	what := reasonWords[p.Details.FailoverReason]
	if what == "" {
		what = strings.TrimSpace(strings.TrimPrefix(p.Error, "⚠️"))
	}
	if p.Details.HTTPStatus != 0 {
		what += fmt.Sprintf(", HTTP %d", p.Details.HTTPStatus)
	}
	if p.Details.Preview != "" {
		what += ": " + p.Details.Preview
	}
	who := "the model provider"
	if p.Details.Provider != "" {
		who += " " + p.Details.Provider
	}
	return clean(who+" fails ("+what+"); the gateway asks it again by itself", maxErrText)
}

// reasonWords are the gateway's reasons for people.
var reasonWords = map[string]string{
	"auth": "it refused the key", "auth_permanent": "it refused the key", "billing": "the account is used up",
	"format": "it rejected the request", "rate_limit": "rate limit", "overloaded": "overloaded", "server_error": "internal error",
	"timeout":         "no whole answer: the connection was refused, reset or cut, or nothing came",
	"tls_certificate": "its certificate is not trusted", "context_overflow": "the conversation is too long",
	"model_not_found": "it does not know the model", "empty_response": "empty answer",
}
