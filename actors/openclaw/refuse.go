package openclaw

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/coder/websocket"

	"github.com/dash-fleet/dash/messages/next"
)

// refuseConnect turns the error answer to connect into a refusal.
func (c *Conn) refuseConnect(e *RPCError) *RefusedError {
	r := &RefusedError{Message: e.Message, RetryAfter: e.RetryAfter, Err: e}
	code := e.Details.Code
	low := strings.ToLower(e.Message)
	switch {
	case code == "PROTOCOL_MISMATCH" || strings.Contains(low, "protocol mismatch"):
		r.Reason, r.Permanent = ReasonProtocol, true
		r.NextStep = fmt.Sprintf(next.UpdateOpenClaw, minimumVersion)
	case strings.Contains(code, "RATE_LIMIT") || strings.Contains(low, "too many failed"):
		r.Reason = ReasonLockedOut
		if r.RetryAfter == 0 {
			r.RetryAfter = 5 * time.Minute // the gateway's lock-out
		}
		r.NextStep = next.CheckToken
	case strings.HasPrefix(code, "AUTH_"):
		r.Reason, r.Permanent = ReasonToken, true
		r.NextStep = next.SetGatewayToken
	case strings.Contains(code, "ORIGIN"):
		r.Reason, r.Permanent = ReasonOrigin, true
		r.NextStep = next.RemoveOriginProxy
	case e.Code == "NOT_PAIRED" || strings.Contains(code, "PAIRING") || strings.HasPrefix(code, "DEVICE_"):
		r.Reason, r.Permanent = ReasonPairing, true
		r.NextStep = next.PairOrLoopback
	case e.Retryable || e.Code == "UNAVAILABLE":
		r.Reason = ReasonStarting
		r.NextStep = next.NothingToDoTried
		if strings.Contains(e.Details.Reason, "drain") || strings.Contains(e.Details.Reason, "suspen") {
			r.Reason = ReasonDraining
		}
	default:
		r.Reason, r.Permanent = ReasonPolicy, true
		r.NextStep = next.ReadRefusingLog
	}
	return r
}

// refuseHTTP turns an HTTP answer other than 101 into a refusal.
func refuseHTTP(status int) *RefusedError {
	r := &RefusedError{Status: status, Message: fmt.Sprintf("HTTP %d instead of a WebSocket", status)}
	switch {
	case status == http.StatusUnauthorized || status == http.StatusForbidden:
		r.Reason, r.Permanent = ReasonPolicy, true
		r.NextStep = next.GiveOwnAddress
	case status == http.StatusTooManyRequests || status >= 500:
		r.Reason = ReasonDraining
		r.NextStep = next.NothingToDoTried
	default:
		r.Reason = ReasonNotGateway
		r.NextStep = next.CheckWebSocketAddress
	}
	return r
}

// refuseIO turns a failed read, write or dial into a refusal.
func (c *Conn) refuseIO(err error) *RefusedError {
	r := &RefusedError{Reason: ReasonUnreachable, Err: err, NextStep: next.NothingToDoTried}
	var ce websocket.CloseError
	switch {
	case errors.As(err, &ce):
		c.refuseClose(r, int(ce.Code), c.clean.text(ce.Reason))
	case errors.Is(err, websocket.ErrMessageTooBig):
		r.Reason, r.Message = ReasonGarbage, "a frame over the limit during the handshake"
		r.NextStep = next.CheckOpenClawURL
	case errors.Is(err, context.DeadlineExceeded):
		r.Message = "no answer from " + c.cfg.safeURL() + " within " + c.cfg.DialTimeout.String()
	case errors.Is(err, context.Canceled):
		r.Message = "the attempt was given up"
	default:
		r.Message = "cannot talk to " + c.cfg.safeURL() + ": " + c.clean.text(causeOf(err).Error())
	}
	return r
}

// causeOf leaves out what the library says of a dial: that it was one, and the
// URL once more.
func causeOf(err error) error {
	var request *url.Error
	if errors.As(err, &request) {
		return request.Err
	}
	return err
}

func (c *Conn) refuseClose(r *RefusedError, code int, reason string) {
	r.Message = fmt.Sprintf("closed with %d during the handshake", code)
	if reason != "" {
		r.Message += ": " + reason
	}
	switch code {
	case CloseStarting:
		r.Reason = ReasonStarting
	case CloseRestart, 1001:
		r.Reason = ReasonDraining
	case CloseProtocol:
		r.Reason, r.Permanent = ReasonProtocol, true
		r.NextStep = fmt.Sprintf(next.UpdateOpenClaw, minimumVersion)
	case ClosePolicy:
		r.Reason, r.Permanent = ReasonPolicy, true
		r.NextStep = next.ReadRefusingLog
	}
}
