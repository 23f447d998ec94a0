package openclaw

import (
	"regexp"
	"strconv"
	"strings"
	"time"
)

// FailureClass sorts failed agent requests by what to do next. The set is
// closed.
type FailureClass string

// Classes of failures.
const (
	// ClassUnavailable: the gateway put the request off before it took the run
	// (suspended, draining, overloaded). Nothing ran.
	ClassUnavailable FailureClass = "unavailable"
	// ClassProvider: the model provider failed in a way that may pass (5xx,
	// 429, cut stream, network).
	ClassProvider FailureClass = "provider"
	// ClassAuth: the provider refused the key (401, 402, 403). The gateway then
	// switches the provider off for about a minute, for all sessions.
	ClassAuth FailureClass = "auth"
	// ClassInvalid: the request or the prompt is not acceptable (provider 400,
	// bad params, missing scope). The same request will fail again.
	ClassInvalid FailureClass = "invalid"
	// ClassTimeout: the run hit a time limit.
	ClassTimeout FailureClass = "timeout"
	// ClassAborted: somebody aborted the run; StopReason says how.
	ClassAborted FailureClass = "aborted"
	// ClassUnknown: the gateway's words fit nothing above, or could not be
	// read. The run may have happened.
	ClassUnknown FailureClass = "unknown"
)

// Failure is why an agent request did not succeed.
type Failure struct {
	Class   FailureClass
	Code    string // the gateway's error code, if any
	Message string // cleaned and shortened
	// StopReason of an aborted run: rpc or aborted.
	StopReason string
	RetryAfter time.Duration
	// BeforeAccept is true if no accepted answer came before: with ClassInvalid
	// and ClassUnavailable the run never started.
	BeforeAccept bool
}

func (f *Failure) Error() string {
	return "run failed (" + string(f.Class) + "): " + f.Message
}

// aborted reports whether a stop reason means an abort, whatever the status.
func aborted(stopReason string) bool { return stopReason == "rpc" || stopReason == "aborted" }

// classifyError sorts an error envelope. A failed run comes as UNAVAILABLE
// without retryable, an overloaded gateway as UNAVAILABLE with it.
// hint is the failover reason that the run's own events told, which the answer
// leaves out.
func classifyError(e *RPCError, accepted bool, hint string) *Failure {
	f := &Failure{Code: e.Code, Message: e.Message, RetryAfter: e.RetryAfter, BeforeAccept: !accepted}
	if e.Details.FailoverReason == "" && e.Code == "UNAVAILABLE" {
		e.Details.FailoverReason = hint
	}
	switch {
	case e.Unavailable() && !accepted:
		f.Class = ClassUnavailable
	case e.MissingScope() || e.UnknownMethod():
		f.Class = ClassInvalid
	case e.Code == "AGENT_TIMEOUT":
		f.Class = ClassTimeout
	case e.Details.HTTPStatus != 0:
		f.Class = classOfStatus(e.Details.HTTPStatus)
	case classOfReason(e.Details.FailoverReason) != ClassUnknown:
		f.Class = classOfReason(e.Details.FailoverReason)
	case e.Code == "UNAVAILABLE":
		f.Class = classOfText(e.Message)
	case !accepted && (e.Code == "INVALID_REQUEST" || e.Code == "FORBIDDEN" || e.Code == "NOT_PAIRED"):
		f.Class = ClassInvalid
	default:
		f.Class = ClassUnknown
	}
	return f
}

// classifyStatus sorts an answer whose frame is ok and whose status is not.
func (c *Conn) classifyStatus(w agentPayload, accepted bool) *Failure {
	msg := w.summary
	if s, ok := text(w.errText); ok && s != "" {
		msg = s
	}
	r, err := decodeResult(w.result, c.cfg.MaxDepth-1)
	if err == nil && r.text != "" {
		msg = r.text
	}
	f := classifyText(c.clean.text(msg), accepted)
	switch {
	case aborted(w.stopReason):
		// A run that hit its own limit has summary "aborted" too, but no stop
		// reason.
		f.Class, f.StopReason = ClassAborted, clean(w.stopReason, 32)
	case w.status == "timeout" || w.stopReason == "timeout":
		f.Class = ClassTimeout
	case w.status == "error" || w.status == "failed":
	default:
		f.Class, f.Message = ClassUnknown, "status "+clean(w.status, 64)
	}
	return f
}

func classifyText(msg string, accepted bool) *Failure {
	return &Failure{Class: classOfText(msg), Message: msg, BeforeAccept: !accepted}
}

func classOfStatus(status int) FailureClass {
	switch {
	case status == 401 || status == 402 || status == 403:
		return ClassAuth
	case status == 408 || status == 429 || status >= 500:
		return ClassProvider
	case status >= 400:
		return ClassInvalid
	}
	return ClassUnknown
}

func classOfReason(reason string) FailureClass {
	switch reason {
	case "auth", "auth_permanent", "billing":
		return ClassAuth
	case "format", "context_overflow", "model_not_found":
		return ClassInvalid
	case "server_error", "rate_limit", "overloaded", "network":
		return ClassProvider
	case "timeout":
		return ClassTimeout
	}
	return ClassUnknown
}

// The run's error text is made for people; these are the marks in it that were
// seen from a real gateway.
var (
	httpStatusMark = regexp.MustCompile(`\bHTTP ([1-5][0-9]{2})\b`)
	textMarks      = []struct {
		mark  string
		class FailureClass
	}{
		{"admitted run", ClassAborted}, // aborted while it was being started; seen in two wordings
		{"temporarily disabled", ClassAuth},
		{"authentication", ClassAuth},
		{"api key", ClassAuth},
		{"timed out", ClassTimeout},
		{"timeout", ClassTimeout},
		{"rate limit", ClassProvider},
		{"overloaded", ClassProvider},
		{"network connection", ClassProvider},
		{"provider internal error", ClassProvider},
		{"request format", ClassInvalid},
		{"rejected the request", ClassInvalid},
	}
)

func classOfText(msg string) FailureClass {
	if m := httpStatusMark.FindStringSubmatch(msg); m != nil {
		if n, err := strconv.Atoi(m[1]); err == nil {
			return classOfStatus(n)
		}
	}
	low := strings.ToLower(msg)
	for _, t := range textMarks {
		if strings.Contains(low, t.mark) {
			return t.class
		}
	}
	return ClassUnknown
}
