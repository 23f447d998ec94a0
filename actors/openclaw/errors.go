package openclaw

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/dash-fleet/dash/messages"
)

// Sentinels of calls. With both of them nothing was written to the gateway.
var (
	// ErrBusy says that the pending table or the outgoing queue is full.
	ErrBusy = errors.New("gateway connection busy: too many requests in flight")
	// ErrClosed says that the connection had ended before the call.
	ErrClosed = errors.New("gateway connection closed")
)

// ErrBudget is the cause of a link that was cut because the gateway sent more
// than may be kept of it at once.
var ErrBudget = errors.New("the gateway sent more than Dash keeps in memory for one gateway")

// Causes of a cut link, found in ClosedError.Cause.
var (
	errSilent  = errors.New("no frame for two tick intervals")
	errGarbage = errors.New("too many undecodable frames")
)

// Reason says why a gateway was refused. The set is closed.
type Reason string

// Reasons of a RefusedError. The first group is permanent: trying again
// without a change is of no use, the gateway belongs into quarantine.
const (
	ReasonToken    Reason = "token"    // wrong or missing shared token
	ReasonProtocol Reason = "protocol" // no common wire protocol, or protocol 3
	ReasonVersion  Reason = "version"  // protocol 4, but no boot id
	ReasonScopes   Reason = "scopes"   // let in without the rights we need
	ReasonPairing  Reason = "pairing"  // the gateway wants a paired device key
	ReasonOrigin   Reason = "origin"   // taken for a browser
	ReasonPolicy   Reason = "policy"   // refused by rule for another reason
	ReasonMethods  Reason = "methods"  // proven to lack a method we need
	ReasonAddress  Reason = "address"  // Config.Allow is against it

	ReasonStarting    Reason = "starting"    // boots, try again soon
	ReasonDraining    Reason = "draining"    // stops or is suspended
	ReasonLockedOut   Reason = "locked_out"  // too many failed logins
	ReasonUnreachable Reason = "unreachable" // no TCP, no TLS, no answer in time
	ReasonNotGateway  Reason = "not_gateway" // something else answers there
	ReasonGarbage     Reason = "garbage"     // the handshake broke the protocol
)

// RefusedError says why Dial did not end in a usable connection.
type RefusedError struct {
	Reason Reason
	// Message is what happened, NextStep what an operator can do about it.
	Message  string
	NextStep string
	// Permanent means that another attempt gives the same result.
	Permanent bool
	// RetryAfter is the gateway's wish, or zero.
	RetryAfter time.Duration
	// Version is what the gateway calls itself, if it came that far.
	Version string
	// Status is that of an HTTP answer in place of a WebSocket, or zero.
	Status int
	// Err is the cause below, if any.
	Err error
}

func (e *RefusedError) Error() string {
	s := "gateway refused (" + string(e.Reason) + "): " + e.Message
	if e.NextStep != "" {
		s += "; " + e.NextStep
	}
	return s
}

func (e *RefusedError) Unwrap() error { return e.Err }

// Coarse says as much as a tenant may know, one of three things: nothing answers,
// a gateway that refuses Dash, or no gateway. Not what listens there or how it answers.
func (e *RefusedError) Coarse() string {
	if e.Status != 0 {
		return messages.GatewayNoProtocol
	}
	switch e.Reason {
	case ReasonToken, ReasonLockedOut, ReasonScopes, ReasonPairing, ReasonOrigin, ReasonPolicy:
		return messages.GatewayRefusesToken
	case ReasonProtocol, ReasonVersion, ReasonMethods, ReasonNotGateway, ReasonGarbage:
		return messages.GatewayNoProtocol
	case ReasonAddress, ReasonStarting, ReasonDraining, ReasonUnreachable:
	}
	return messages.GatewayUnreached
}

// RPCError is an error envelope of the gateway.
type RPCError struct {
	Method  string
	Code    string // such as INVALID_REQUEST, FORBIDDEN, UNAVAILABLE
	Message string // cleaned and shortened
	// Retryable and RetryAfter are the gateway's own words. Overload,
	// suspension and draining set them; a failed run does not.
	Retryable  bool
	RetryAfter time.Duration
	Details    ErrorDetails
}

// ErrorDetails are the members of error.details that mean something here.
type ErrorDetails struct {
	Code           string
	Reason         string
	Phase          string
	FailoverReason string
	Provider       string
	// Preview is the beginning of the provider's own message.
	Preview    string
	RequestID  string
	HTTPStatus int
}

func (e *RPCError) Error() string {
	return fmt.Sprintf("gateway %s: %s: %s", e.Method, e.Code, e.Message)
}

// Unavailable reports whether the gateway put the request off (overload,
// suspension, draining, starting) instead of answering it.
func (e *RPCError) Unavailable() bool { return e.Code == "UNAVAILABLE" && e.Retryable }

// UnknownMethod reports whether the gateway proved that it lacks the method.
func (e *RPCError) UnknownMethod() bool { return hasPrefix(e.Message, "unknown method") }

// MissingScope reports whether a right is missing. The code differs between
// versions, the text does not.
func (e *RPCError) MissingScope() bool { return hasPrefix(e.Message, "missing scope:") }

func hasPrefix(s, p string) bool { return len(s) >= len(p) && s[:len(p)] == p }

// AnswerError says that the gateway answered with something unusable: no
// payload, a wrong type, a member missing. The request may have had its effect.
type AnswerError struct {
	Method  string
	Problem string
}

func (e *AnswerError) Error() string {
	return fmt.Sprintf("gateway %s: unusable answer: %s", e.Method, e.Problem)
}

// LostError says that no answer came: the connection ended or the context did.
type LostError struct {
	Method string
	// Written is false only if certainly no byte of the frame was written.
	Written bool
	Err     error
}

func (e *LostError) Error() string {
	what := "sent, outcome unknown"
	if !e.Written {
		what = "not sent"
	}
	return fmt.Sprintf("gateway %s: %s: %v", e.Method, what, e.Err)
}

func (e *LostError) Unwrap() error { return e.Err }

// Timeout reports whether the caller's deadline ended the call.
func (e *LostError) Timeout() bool { return errors.Is(e.Err, context.DeadlineExceeded) }

// Close codes of a gateway, as far as they mean something here.
const (
	CloseNormal   = 1000
	CloseProtocol = 1002
	CloseAbnormal = 1006 // no close frame: crash, cut link, refused while draining
	ClosePolicy   = 1008
	CloseTooBig   = 1009
	CloseRestart  = 1012
	CloseStarting = 1013
)

// ClosedError says how a connection ended.
type ClosedError struct {
	// Code is the close code, CloseAbnormal if none was received.
	Code   int
	Reason string // the gateway's words, cleaned
	// Shutdown is the announcement that came before, or nil.
	Shutdown *Shutdown
	// Local is true when this side ended the connection by Close.
	Local bool
	// Err is the cause: an I/O error, a broken limit, a dead link.
	Err error
}

func (e *ClosedError) Error() string {
	switch {
	case e.Local:
		return "gateway connection closed by us"
	case e.Reason != "":
		return fmt.Sprintf("gateway connection closed: %d %s", e.Code, e.Reason)
	case e.Err != nil:
		return fmt.Sprintf("gateway connection closed: %d: %v", e.Code, e.Err)
	}
	return fmt.Sprintf("gateway connection closed: %d", e.Code)
}

func (e *ClosedError) Unwrap() error { return e.Err }
