package messages

import (
	"errors"
	"time"
)

// Code names a kind of failure that callers branch on. Codes are public: they
// appear in problem+json answers, task errors, logs and metrics.
type Code string

// Codes of refused requests.
const (
	CodeInvalid       Code = "invalid_request"
	CodeTooLarge      Code = "too_large"
	CodeUnauthorized  Code = "unauthorized"
	CodeForbidden     Code = "forbidden"
	CodeNotFound      Code = "not_found"
	CodeConflict      Code = "conflict"
	CodeKeyReused     Code = "idempotency_key_reused"
	CodeQueueFull     Code = "queue_full"
	CodeUnavailable   Code = "unavailable"
	CodeStandby       Code = "standby" // nothing was done: another node does the work
	CodeTimeout       Code = "timeout"
	CodeInternal      Code = "internal"
	CodeWrongPool     Code = "session_in_other_pool"
	CodeWrongState    Code = "wrong_state"
	CodeNotSupported  Code = "not_supported"
	CodeVersionClash  Code = "version_mismatch"
	CodeShuttingDown  Code = "shutting_down"
	CodeSessionParked Code = "session_parked"
)

// Codes of failed attempts.
const (
	CodeProvider         Code = "provider_unavailable"
	CodeProviderRejected Code = "provider_rejected"
	CodeProviderAuth     Code = "provider_auth"
	CodeRunTimeout       Code = "run_timeout"
	CodeDeadline         Code = "deadline_exceeded"
	CodeRunAborted       Code = "run_aborted"
	CodeRunLost          Code = "run_lost"
	CodeGatewayInvalid   Code = "gateway_rejected"
	CodeOutcomeUnknown   Code = "outcome_unknown"
	CodeReleasedFailed   Code = "released_as_failed"
	CodeSessionFailed    Code = "session_failed"
	CodeEmptyAnswer      Code = "empty_answer"
	CodeContentFilter    Code = "content_filter"
	CodeRefused          Code = "refused"
	CodeContextOverflow  Code = "context_overflow"
	CodeModelUnknown     Code = "model_unknown"
	CodeGatewayCrashed   Code = "gateway_crashed"
	CodeGivenBack        Code = "given_back" // it came back too often without having run
)

// TaskCodes are the codes of failed attempts, for those who choose among them.
func TaskCodes() []string {
	codes := []Code{
		CodeProvider, CodeProviderRejected, CodeProviderAuth, CodeRunTimeout, CodeDeadline, CodeRunAborted, CodeRunLost,
		CodeGatewayInvalid, CodeOutcomeUnknown, CodeReleasedFailed, CodeSessionFailed, CodeEmptyAnswer, CodeContentFilter,
		CodeRefused, CodeContextOverflow, CodeModelUnknown, CodeGatewayCrashed,
		CodeGivenBack,
	}
	names := make([]string, len(codes))
	for i, c := range codes {
		names[i] = string(c)
	}
	return names
}

// Error is a refusal that may be shown to a user: what, why, and what next.
type Error struct {
	Code     Code
	Message  string // what happened and why
	NextStep string // what the caller can do
	// RetryAfter is set when the same request may succeed later.
	RetryAfter time.Duration
	// Position and Limit describe a full queue.
	Position, Limit int
	// Fields point at what is wrong in a request.
	Fields []FieldError
	Err    error // the cause, for logs only
}

// FieldError points at one wrong field by JSON pointer.
type FieldError struct {
	Pointer string
	Detail  string
}

func (e *Error) Error() string {
	s := string(e.Code) + ": " + e.Message
	if e.NextStep != "" {
		s += " (" + e.NextStep + ")"
	}
	return s
}

func (e *Error) Unwrap() error { return e.Err }

// CodeOf returns the code of the first *Error in err's chain, or CodeInternal.
func CodeOf(err error) Code {
	var e *Error
	if errors.As(err, &e) {
		return e.Code
	}
	return CodeInternal
}
