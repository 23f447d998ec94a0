package openclaw

import (
	"cmp"
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
	// ClassEmpty: the model answered with nothing, or with NO_REPLY.
	ClassEmpty FailureClass = "empty"
	// ClassFilter: the provider's content filter stopped the answer.
	ClassFilter FailureClass = "filter"
	// ClassRefused: the model refused the request.
	ClassRefused FailureClass = "refused"
	// ClassOverflow: the conversation is too long for the model.
	ClassOverflow FailureClass = "overflow"
	// ClassModel: there is no such provider or model.
	ClassModel FailureClass = "model"
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
	// Final: the gateway ended this very run and says so, in whatever words.
	Final bool
	// Provider is the provider that failed, where the gateway names it.
	Provider string
	// Pause comes with ClassAuth: how long the gateway will not ask the provider.
	Pause time.Duration
	// NoCall: the gateway did not ask the model at all, because it has switched
	// the provider off.
	NoCall bool
	// Usage is what the run cost all the same, nil if the gateway does not say.
	Usage *Usage
}

func (f *Failure) Error() string {
	return "run failed (" + string(f.Class) + "): " + f.Message
}

// aborted reports whether a stop reason means an abort, whatever the status.
func aborted(stopReason string) bool { return stopReason == "rpc" || stopReason == "aborted" }

// classifyError sorts an error envelope. A failed run comes as UNAVAILABLE
// without retryable, an overloaded gateway as UNAVAILABLE with it.
// hint is what the run's own events told of its last failed model call, which
// the answer leaves out.
func classifyError(e *RPCError, accepted bool, hint ErrorDetails) *Failure {
	f := &Failure{Code: e.Code, Message: e.Message, RetryAfter: e.RetryAfter, BeforeAccept: !accepted}
	switch {
	case e.Unavailable() && !accepted:
		f.Class = ClassUnavailable
	case e.MissingScope() || e.UnknownMethod():
		f.Class = ClassInvalid
	case e.Code == "AGENT_TIMEOUT":
		f.Class = ClassTimeout
	case e.Code == "UNAVAILABLE" && !e.Retryable:
		f.Final = true
		f.classify(e.Details, hint)
	case e.Details.HTTPStatus != 0 || e.Details.FailoverReason != "":
		f.classify(e.Details, ErrorDetails{})
	case !accepted && (e.Code == "INVALID_REQUEST" || e.Code == "FORBIDDEN" || e.Code == "NOT_PAIRED"):
		f.Class = ClassInvalid
	default:
		f.Class = ClassUnknown
	}
	return f
}

// noReason is said where a gateway gives none.
const noReason = "the gateway says that the run failed, and not why"

// classifyStatus sorts an answer whose frame is ok and whose status is not. Only
// what the gateway marks as an error counts: what the model wrote is data.
func (c *Conn) classifyStatus(w agentPayload, accepted bool, hint ErrorDetails) *Failure {
	f := &Failure{Message: w.summary, BeforeAccept: !accepted}
	r, err := decodeResult(w.result, c.cfg.MaxDepth-1, maxWord)
	if s, ok := text(w.errText); ok && s != "" {
		f.Message = s
	}
	if err == nil {
		f.Message = cmp.Or(r.errText, r.errParts, f.Message)
		f.Provider, f.Usage = r.meta.Provider, r.usage
	}
	f.Message = c.clean.text(cmp.Or(f.Message, noReason))
	switch {
	case aborted(w.stopReason):
		// A run that hit its own limit has summary "aborted" too, but no stop
		// reason.
		f.Class, f.StopReason = ClassAborted, clean(w.stopReason, 32)
	case w.status == "timeout" || w.stopReason == "timeout":
		f.Class = ClassTimeout
	case w.status == "error" || w.status == "failed" || w.status == "ok":
		f.Final = true
		f.sort(ErrorDetails{FailoverReason: r.errKind}, hint, false)
	default:
		f.Class, f.Message = ClassUnknown, "status "+clean(w.status, 64)
	}
	return f
}

// classify sorts a run's end whose message the gateway wrote itself.
func (f *Failure) classify(own, hint ErrorDetails) { f.sort(own, hint, true) }

// sort sorts a run's end by what is known of it: words that mean one thing
// only, then the gateway's own sorting, then the provider's status, then words
// that many failures share. The answer's details go before the run's events.
// What fits nothing is unknown: it may pass.
// Where the message may be the provider's, passed on, which may repeat what a
// person or a model wrote, such shared words prove nothing, nor that a provider is switched off.
func (f *Failure) sort(own, hint ErrorDetails, gatewaysWords bool) {
	f.Provider = cmp.Or(own.Provider, hint.Provider, f.Provider)
	if gatewaysWords {
		f.Provider = cmp.Or(f.Provider, providerIn(f.Message))
	}
	if gatewaysWords && f.switchedOff() {
		return
	}
	f.Class = cmp.Or(classOfMark(f.Message, plainMarks),
		classOfReason(own.FailoverReason), classOfStatus(own.HTTPStatus),
		classOfReason(hint.FailoverReason), classOfStatus(hint.HTTPStatus))
	if f.Class == "" && gatewaysWords {
		f.Class = classOfText(f.Message)
	}
	f.Class = cmp.Or(f.Class, ClassUnknown)
	if f.Class == ClassAuth {
		f.Pause = pauseOf(cmp.Or(own.FailoverReason, hint.FailoverReason), cmp.Or(own.HTTPStatus, hint.HTTPStatus), f.Message)
	}
	// The gateway's words for a rejected request name no reason; the provider's do.
	if why := cmp.Or(own.Preview, hint.Preview); why != "" && !strings.Contains(f.Message, why) {
		f.Message = clean(f.Message+" (the provider: "+why+")", maxErrText)
	}
}

// Pauses of a provider that refused the key, and of one whose account is used
// up, where the gateway does not tell: they were measured.
const (
	authPause    = 30 * time.Second
	billingPause = 600 * time.Second
	maxPause     = 24 * time.Hour // what a gateway may ask for
)

func pauseOf(reason string, status int, msg string) time.Duration {
	if reason == "billing" || reason == "" && (status == 402 || strings.Contains(strings.ToLower(msg), "billing")) {
		return billingPause
	}
	return authPause
}

var (
	offMark     = regexp.MustCompile(`for provider "([^"]{1,128})" is temporarily disabled`)
	offDuration = regexp.MustCompile(`after about ([0-9]{1,6}) (second|minute|hour)`)
)

// whoFailed is how the text of a failed run begins. 2026.8.2 names the provider
// there alone.
var whoFailed = regexp.MustCompile(`^(?:⚠️ )?([A-Za-z0-9._-]{1,128})(?:/| \()\S{1,256} (?:request failed|returned a billing error)`)

func providerIn(msg string) string {
	if m := whoFailed.FindStringSubmatch(msg); m != nil {
		return m[1]
	}
	return ""
}

// switchedOff reports whether the run ended without a model call, because the
// gateway leaves the provider alone for a while after it refused the key.
func (f *Failure) switchedOff() bool {
	m := offMark.FindStringSubmatch(f.Message)
	if m == nil {
		return false
	}
	f.Class, f.NoCall, f.Provider, f.Pause = ClassAuth, true, m[1], authPause
	if d := offDuration.FindStringSubmatch(f.Message); d != nil {
		unit := map[string]time.Duration{"second": time.Second, "minute": time.Minute, "hour": time.Hour}[d[2]]
		n, err := strconv.Atoi(d[1])
		if err == nil && n > 0 {
			f.Pause = min(time.Duration(n)*unit, maxPause)
		}
	}
	return true
}

// classOfStatus sorts by the provider's HTTP status; "" for one that says
// nothing certain.
func classOfStatus(status int) FailureClass {
	switch {
	case status == 401 || status == 402 || status == 403:
		return ClassAuth
	case status == 408 || status == 409 || status == 410 || status == 429 || status == 499 || status >= 500:
		return ClassProvider
	case status == 400 || status == 422:
		return ClassInvalid
	}
	return ""
}

// classOfReason sorts by the gateway's own closed set of reasons. Its "timeout"
// is every call that ended without an answer: cut, reset and refused
// connections too. A run's own limit is no reason but a status.
func classOfReason(reason string) FailureClass {
	switch reason {
	case "auth", "auth_permanent", "billing":
		return ClassAuth
	case "format":
		return ClassInvalid
	case "context_overflow":
		return ClassOverflow
	case "model_not_found":
		return ClassModel
	case "empty_response":
		return ClassEmpty
	case "server_error", "rate_limit", "overloaded", "network", "timeout", "tls_certificate":
		return ClassProvider
	}
	return ""
}

type textMark struct {
	mark  string
	class FailureClass
}

// The run's error text is made for people; these are the marks in it that were
// seen from a real gateway.
var (
	httpStatusMark = regexp.MustCompile(`\bHTTP ([1-5][0-9]{2})\b`)
	plainMarks     = []textMark{
		{"admitted run", ClassAborted}, // aborted while it was being started; seen in two wordings
		{"no progress", ClassTimeout},  // the lane's own limit, behind the run's
		{"couldn't generate a response", ClassEmpty},
		{"_reason: content_filter", ClassFilter}, // finish_reason or incomplete_reason,
		{"provider refused this request", ClassRefused},
		{"anthropic refusal", ClassRefused}, // 2026.8.2
		{"context overflow", ClassOverflow},
		{"unknown model:", ClassModel},
		{"selected model was not found", ClassModel}, // 2026.8.2 gives no reason beside it
	}
	sharedMarks = []textMark{
		{"authentication", ClassAuth},
		{"api key", ClassAuth},
		{"timed out", ClassProvider},
		{"timeout", ClassProvider},
		{"rate limit", ClassProvider},
		{"overloaded", ClassProvider},
		{"network connection", ClassProvider},
		{"connection refused", ClassProvider},
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
	return classOfMark(msg, sharedMarks)
}

func classOfMark(msg string, marks []textMark) FailureClass {
	low := strings.ToLower(msg)
	for _, t := range marks {
		if strings.Contains(low, t.mark) {
			return t.class
		}
	}
	return ""
}
