package server

import (
	"context"
	"errors"
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/dash-fleet/dash/http/api"
	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/messages/next"
)

// Codes that only HTTP knows.
const (
	codeMethod       messages.Code = "method_not_allowed"
	codeMediaType    messages.Code = "unsupported_media_type"
	codeNeedUpgrade  messages.Code = "upgrade_required"
	codeNeedVersion  messages.Code = "precondition_required"
	codeTooManyCalls messages.Code = "too_many_requests_in_flight"
	codeInFlight     messages.Code = "idempotency_key_in_flight"
	codeRateLimited  messages.Code = "rate_limited"
)

// meaning is how a code looks in HTTP, and what its page in the docs says.
type meaning struct {
	status int
	title  string
	advice string
}

// meanings maps every code that may refuse a request. A code that is missing
// here answers 500; a test walks the codes of package messages.
var meanings = map[messages.Code]meaning{
	messages.CodeInvalid:       {400, "The request is not valid", "Each entry of `errors` points at a field and says what is wrong with it. Correct the request; repeating it as it is cannot succeed."},
	messages.CodeUnauthorized:  {401, "No valid credential", "Send `Authorization: Bearer dash_…` with a key that is active and has not expired."},
	messages.CodeForbidden:     {403, "Not permitted", "The credential is valid but lacks the permission, or belongs to another tenant. Use another one."},
	messages.CodeNotFound:      {404, "Not found", "There is no such thing, or it belongs to another tenant. Check the id."},
	codeMethod:                 {405, "Method not allowed", "The header `Allow` lists the methods of this path."},
	messages.CodeConflict:      {409, "Conflict", "Something with this id exists already, or changed meanwhile. Read it, then decide."},
	messages.CodeWrongState:    {409, "Wrong state", "The object is in a state that does not allow this. Read it; its `state` and `reason` say more."},
	messages.CodeWrongPool:     {409, "The session belongs to another pool", "Leave `pool` out, or use another session."},
	messages.CodeSessionParked: {409, "The session is parked", "Its agent failed too often. Look at the session's `reason`, then `POST /sessions/{id}/resume`."},
	codeInFlight:               {409, "The same request is being answered", "A request with this Idempotency-Key is in progress. Repeat it a little later to get its answer."},
	messages.CodeVersionClash:  {412, "Changed meanwhile", "The version in `If-Match` is not the current one. Read the object and repeat the change."},
	messages.CodeTooLarge:      {413, "Too large", "A body may have 1 MiB, a message 256 KiB."},
	codeMediaType:              {415, "Unsupported media type", "Send `Content-Type: application/json`."},
	messages.CodeKeyReused:     {422, "The Idempotency-Key was used for another request", "Use a new key for a new request."},
	messages.CodeNotSupported:  {422, "Not supported", "The request is valid, but this object does not support it. `detail` says why."},
	codeNeedUpgrade:            {426, "Upgrade required", "This path speaks WebSocket only. `GET /api/v1/events` tells the same as server-sent events."},
	codeNeedVersion:            {428, "Precondition required", "Send `If-Match` with the version you read, or `If-None-Match: *` to create."},
	messages.CodeQueueFull:     {429, "The queue is full", "Wait for `Retry-After` seconds and repeat the request with the same Idempotency-Key. `queue` tells the position it would have had and the limit."},
	codeRateLimited:            {429, "The key or its tenant has used up its requests", "A key may make `rate_limit` requests a minute, across all nodes, and the operator may limit all keys of a tenant together; `detail` says which limit was reached. The quota refills evenly. Wait for `Retry-After` seconds and repeat the request, or use a key with a higher limit."},
	messages.CodeInternal:      {500, "Internal error", "A defect of Dash. The log has an entry with this `request_id`."},
	messages.CodeUnavailable:   {503, "Unavailable", "The store or a part of Dash does not answer now. Repeat the request after `Retry-After` seconds."},
	messages.CodeStandby:       {503, "This node is on standby", "It did nothing: another node is active, or this one will be as soon as it can. Ask the other node; `GET /api/v1/nodes` lists them."},
	messages.CodeShuttingDown:  {503, "Shutting down", "This node is stopping. Repeat the request, at another node if there is one."},
	codeTooManyCalls:           {503, "Too many requests in flight", "This node answers as many requests of this kind as it can. Repeat the request after `Retry-After` seconds."},
	messages.CodeTimeout:       {504, "Timed out", "The request took too long. A write may have happened all the same: repeat it with the same Idempotency-Key."},
}

// errClientClosed ends a stream before it began: a stream's client has to stay.
var errClientClosed = errors.New("the client closed its side of the connection")

// docsPath is where a code's page is; it is the `type` of a problem.
func docsPath(c messages.Code) string { return prefix + "/docs/errors/" + string(c) }

// refusal turns any error into one that may be shown.
func refusal(err error) *messages.Error {
	var e *messages.Error
	var syntax *syntaxError
	switch {
	case errors.As(err, &e):
		if _, known := meanings[e.Code]; known {
			return e
		}
	case errors.As(err, &syntax):
		return invalid(messages.FieldError{Pointer: syntax.pointer, Detail: syntax.detail})
	case errors.Is(err, context.DeadlineExceeded):
		return &messages.Error{Code: messages.CodeTimeout, Message: "the request took too long", NextStep: next.RepeatSameKey, Err: err}
	case errors.Is(err, errClientClosed):
		return &messages.Error{Code: messages.CodeInvalid, Message: "the client closed its side of the connection", NextStep: next.KeepStreamOpen, Err: err}
	case errors.Is(err, context.Canceled): // only a Stop cuts requests, see detach
		return &messages.Error{Code: messages.CodeShuttingDown, Message: "the request was cut off", NextStep: next.RepeatSameKey, RetryAfter: time.Second, Err: err}
	}
	return &messages.Error{Code: messages.CodeInternal, Message: "something went wrong inside Dash", NextStep: next.LookForRequestID, Err: err}
}

// invalid is the refusal of a request with wrong fields.
func invalid(fields ...messages.FieldError) *messages.Error {
	e := &messages.Error{Code: messages.CodeInvalid, Message: "the request is not valid", Fields: fields}
	if len(fields) > 0 {
		e.Message = strings.TrimSpace(fields[0].Pointer + " " + fields[0].Detail)
		if n := len(fields) - 1; n > 0 {
			e.Message += " (and " + strconv.Itoa(n) + " more)"
		}
	}
	return e
}

// problem answers with an error. The cause of a 500 is logged, never shown.
func (c *call) problem(err error) {
	e := refusal(err)
	m := meanings[e.Code]
	cause := e.Err
	if m.status == http.StatusInternalServerError {
		cause = err
	}
	c.logRefusal(e, m.status, cause)
	c.recordRefusal(m.status, e.Code)
	p := api.Problem{
		Type: c.s.link(docsPath(e.Code)), Title: m.title, Status: m.status, Detail: e.Message,
		Code: string(e.Code), RequestId: c.id,
	}
	if e.NextStep != "" {
		p.NextStep = &e.NextStep
	}
	if len(e.Fields) > 0 {
		list := make([]api.FieldError, len(e.Fields))
		for i, f := range e.Fields {
			list[i] = api.FieldError{Pointer: f.Pointer, Detail: f.Detail}
		}
		p.Errors = &list
	}
	if e.Code == messages.CodeQueueFull {
		p.Queue = &api.QueuePosition{Position: e.Position, Limit: e.Limit}
	}
	if c.status == 0 {
		c.drain()
	}
	h := c.w.Header()
	if after := retryAfter(e, m.status); after > 0 {
		h.Set("Retry-After", strconv.Itoa(after))
	}
	if m.status == http.StatusUnauthorized {
		h.Set("WWW-Authenticate", `Bearer realm="dash"`)
	}
	c.write(m.status, "application/problem+json", p)
}

// retryAfter is in whole seconds, at least one where the status promises it.
func retryAfter(e *messages.Error, status int) int {
	after := int(math.Ceil(e.RetryAfter.Seconds()))
	if after < 1 && (status == http.StatusTooManyRequests || status == http.StatusServiceUnavailable) {
		after = 1
	}
	return after
}
