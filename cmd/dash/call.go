package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/dash-fleet/dash/http/api"
	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/messages/next"
)

const (
	// callTimeout bounds one call with all its tries; long polls add what they
	// wait for.
	callTimeout = 30 * time.Second
	// triesOfCall is the number of tries that may each hang.
	triesOfCall = 3
	// rateWaits and maxRateWait bound how often and how long a call waits
	// because its key has called too often; that is not counted as its time.
	rateWaits   = 10
	maxRateWait = 2 * time.Minute
)

// request is one call.
type request struct {
	method, path string // path below /api/v1
	query        url.Values
	header       http.Header
	body         any
	// wait is how long the server may hold its answer back.
	wait time.Duration
	// durable says that the idempotency key is stored with what it made, or that
	// the request changes nothing; other keys are known to one run of one node,
	// and a proxy may send a repetition to another.
	durable bool
	// again is what to do when nobody knows whether a write was done; empty: to
	// look first.
	again string
}

func get(path string, query url.Values) request {
	return request{method: http.MethodGet, path: path, query: query}
}

// post carries an idempotency key, so that a repetition does no harm: that of
// a proxy, or the client's own.
func post(path string, body any) request {
	return request{method: http.MethodPost, path: path, body: body, header: http.Header{"Idempotency-Key": {messages.NewID()}}}
}

// submitting is a post whose key is kept with the task.
func submitting(path string, body any, key string) request {
	r := post(path, body)
	if key != "" {
		r.header.Set("Idempotency-Key", key)
	}
	r.durable, r.again = true, fmt.Sprintf(next.SameKeyAgain, shellWord(r.header.Get("Idempotency-Key")))
	return r
}

func (r request) reads() bool { return r.method == http.MethodGet }

// repeatable says that to carry the request out twice does no harm, at whatever
// node.
func (r request) repeatable() bool { return r.reads() || r.durable }

// call sends a request and decodes the answer into out, which may be nil. What
// may have been carried out without an answer is sent again within the call's
// time where that does no harm; else, and if it does not help either, the error
// says that nobody knows, and how to go on safely.
func (c *client) call(ctx context.Context, r request, out any) error {
	end := time.Now().Add(c.patience + r.wait)
	doubt := false
	var stood error // what a node that stands by said: more than that another one is dead
	for n, waits := 0, 0; ; n++ {
		err := c.try(ctx, r, end, out)
		if err == nil {
			return nil
		}
		v := verdictOf(err)
		if v.standby {
			stood = err
		} else if v.unreached && stood != nil {
			err = stood
		}
		doubt = doubt || v.sent && !r.reads()
		switch {
		case ctx.Err() != nil:
			return c.ended(r, context.Cause(ctx), doubt || !r.reads())
		case v.rate > 0 && v.rate <= maxRateWait && waits < rateWaits:
			waits++
			fmt.Fprintf(c.talk, "%s; going on in %s\n", rateLimited, age(v.rate))
			v.pause = v.rate
			end = end.Add(v.pause)
		case (v.unreached || v.standby) && !doubt && c.other(n):
			continue // nothing was done, another address may do it
		case v.sent && !r.repeatable():
			return c.ended(r, err, doubt)
		case (v.unreached || v.standby) && doubt:
			c.other(n)
		case v.again, v.away && doubt:
		default:
			return c.ended(r, err, doubt)
		}
		pause := max(v.pause, min(c.pause<<min(n, 5), time.Second))
		if time.Until(end) < pause {
			return c.ended(r, err, doubt)
		}
		select {
		case <-ctx.Done():
			return c.ended(r, context.Cause(ctx), doubt)
		case <-time.After(pause):
		}
	}
}

const rateLimited = "the key has called too often"

// try sends a request once.
func (c *client) try(ctx context.Context, r request, end time.Time, out any) error {
	limit := time.Until(end)
	if r.repeatable() {
		limit = min(limit, c.tryFor+r.wait)
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	return c.api.Do(ctx, r.method, r.path, r.query, r.body, out, func(h http.Header) {
		for k, v := range r.header {
			if k == "Idempotency-Key" && !r.repeatable() {
				// net/http sends what carries the name in this form again by itself.
				k = "idempotency-key"
			}
			h[k] = v
		}
	})
}

// verdict is what a failed try means for another one.
type verdict struct {
	sent      bool          // it may have been carried out all the same
	again     bool          // the same request may give an answer
	away      bool          // the node refuses everything for the moment
	unreached bool          // nothing was sent
	standby   bool          // nothing was done, another node does the work
	pause     time.Duration // before another try
	rate      time.Duration // after which the key may call again
}

func verdictOf(err error) verdict {
	var refusal *api.Error
	var op *net.OpError
	switch {
	case errors.As(err, &refusal):
		pause := max(refusal.RetryAfter, 0)
		switch {
		case refusal.Code == "rate_limited":
			return verdict{rate: max(pause, time.Second)}
		case refusal.Code == "idempotency_key_in_flight":
			return verdict{sent: true, again: true, pause: pause}
		case refusal.Status == http.StatusGatewayTimeout, refusal.Status == http.StatusBadGateway:
			return verdict{sent: true, again: refusal.Code == string(messages.CodeTimeout) || strings.HasPrefix(refusal.Code, "http_"), pause: pause}
		}
		return verdict{away: refusal.Status == http.StatusServiceUnavailable, standby: refusal.Code == string(messages.CodeStandby), pause: pause}
	case errors.As(err, &op) && op.Op == "dial":
		return verdict{unreached: true}
	case brokeOff(err):
		return verdict{sent: true, again: true}
	}
	return verdict{}
}

// brokeOff reports that a request or its answer ended in the middle.
func brokeOff(err error) bool {
	var closed interface{ Timeout() bool }
	if errors.As(err, &closed) && closed.Timeout() || errors.Is(err, context.DeadlineExceeded) {
		return true
	}
	for _, e := range []error{io.EOF, io.ErrUnexpectedEOF, net.ErrClosed, http.ErrBodyReadAfterClose, syscall.ECONNRESET, syscall.EPIPE, syscall.ECONNABORTED} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// ended is the error of a call that is given up. doubt says that what it asked
// for may have been done.
func (c *client) ended(r request, err error, doubt bool) error {
	said := c.told(err)
	if !doubt {
		return said
	}
	again := r.again
	if again == "" {
		again = lookFirst(r.path)
	}
	var f *failure
	switch {
	case errors.Is(said, context.Canceled):
		return &failure{code: exitInterrupted, what: "interrupted; it is not known whether it was done", next: again, err: err}
	case !errors.As(said, &f):
		return said
	case f.code == exitUnavailable && !verdictOf(err).sent: // what it says of itself, such as that nothing was accepted, is not said of the others
		return &failure{code: exitUnavailable, what: "it is not known whether an earlier try did it; the last one: " + f.what, next: again, requestID: f.requestID, err: err}
	case f.code == exitUnavailable:
		return &failure{code: exitUnavailable, what: f.what + "; it is not known whether it was done", next: again, requestID: f.requestID, err: err}
	}
	f.what += "; an earlier try of this command may have done it"
	return f
}

// lookAt is how one looks at one thing of a collection.
var lookAt = map[string]string{
	"tasks": next.LookAtTaskFirst, "sessions": next.LookAtSessionFirst, "gateways": next.LookAtGatewayFirst, "pools": next.LookAtPoolFirst,
}

// lookFirst names the command that tells whether a write of the path was done.
func lookFirst(path string) string {
	parts := strings.Split(strings.TrimPrefix(path, "/"), "/")
	if step := lookAt[parts[0]]; len(parts) > 1 && step != "" {
		if id, err := url.PathUnescape(parts[1]); err == nil {
			return fmt.Sprintf(step, shellWord(id))
		}
	}
	return fmt.Sprintf(next.LookFirst, nounOf(path))
}

// nounOf is the noun of a path's things: "/dead-letters/replay" is about tasks.
func nounOf(path string) string {
	first, _, _ := strings.Cut(strings.TrimPrefix(path, "/"), "/")
	if first == "dead-letters" {
		return "task"
	}
	return strings.TrimSuffix(first, "s")
}

// told puts an error of the API's client into words. Errors are *failure,
// except for an interrupt.
func (c *client) told(err error) error {
	var refusal *api.Error
	var f *failure
	var reach *url.Error
	var cert *tls.CertificateVerificationError
	unavailable := func(advice, format string, args ...any) error {
		return &failure{code: exitUnavailable, what: fmt.Sprintf(format, args...), next: advice, err: err}
	}
	switch {
	case err == nil, errors.Is(err, context.Canceled), errors.As(err, &f):
		return err
	case errors.As(err, &refusal):
		return c.refused(refusal)
	case errors.Is(err, context.DeadlineExceeded) || os.IsTimeout(err):
		return unavailable(next.Doctor, "%s did not answer in time", c.base)
	case errors.As(err, &cert):
		return unavailable(next.TrustIssuer, "the certificate of %s is not trusted: %v", c.base, cert.Err)
	case strings.Contains(err.Error(), "HTTP response to HTTPS client"):
		return unavailable(next.WriteHTTP, "%s speaks http, and DASH_URL says https", c.base)
	case brokeOff(err):
		return unavailable(next.Doctor, "the answer of %s broke off: %v", c.base, err)
	case errors.As(err, &reach):
		return unavailable(next.StartNode, "no Dash node answers at %s: %v", c.addresses(), reach.Err)
	}
	return &failure{code: exitFailed, what: "the answer of " + c.base + " is not what this version of dash expects: " + err.Error(),
		next: next.CompareVersions, err: err}
}
