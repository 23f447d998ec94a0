package server

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"github.com/dash-fleet/dash/http/auth"
	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/messages/next"
)

// Header values that never change are shared between answers: the slices are
// full, so that adding to one copies it.
var (
	hdrNoSniff    = []string{"nosniff"}
	hdrDeny       = []string{"DENY"}
	hdrNoStore    = []string{"no-store"}
	hdrNoReferrer = []string{"no-referrer"}
	hdrCSP        = []string{"default-src 'none'; frame-ancestors 'none'"}
	hdrHSTS       = []string{"max-age=31536000"}
	hdrDeprecated = []string{"@1795219200"} // 2026-11-21, RFC 9745
)

func randomPrefix() string {
	var b [6]byte
	_, _ = rand.Read(b[:]) // never fails, as its documentation says
	return hex.EncodeToString(b[:]) + "-"
}

// ServeHTTP refuses what is not canonical, then routes.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h["X-Content-Type-Options"] = hdrNoSniff
	h["X-Frame-Options"] = hdrDeny
	h["Cache-Control"] = hdrNoStore
	h["Referrer-Policy"] = hdrNoReferrer
	h["Content-Security-Policy"] = hdrCSP
	if r.TLS != nil {
		h["Strict-Transport-Security"] = hdrHSTS
	}
	id := r.Header.Get("X-Request-Id")
	if messages.CheckID(id) != nil {
		id = s.idPrefix + strconv.FormatUint(s.nextID.Add(1), 36)
	}
	h["X-Request-Id"] = []string{id}
	conn := connectionOf(r)
	conn.begin()
	defer conn.end()
	if conn.probesOnly() || r.ProtoMajor == 1 && len(r.TransferEncoding) > 0 {
		// A chunked body may have come with a Content-Length, too, which net/http
		// does not tell: a proxy that believed that may have parted it elsewhere.
		h["Connection"] = []string{"close"}
	}
	if r.ContentLength != 0 {
		// Also for a body that nobody will read: net/http drains it. read takes it back.
		_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(s.cfg.ReadTimeout)) // a recorder in a test has none
	}
	if why := notCanonical(r); why != "" {
		c := &call{s: s, w: w, r: r, id: id, route: routeNone}
		c.problem(&messages.Error{Code: messages.CodeInvalid, Message: why, NextStep: next.SendPlainPath})
		s.metrics.observe(routeNone, r.Method, c.status, 0)
		return
	}
	s.router.ServeHTTP(w, r)
}

// notCanonical says why a path may not be routed, "" when it may: two
// spellings of one path must never meet two different rules.
func notCanonical(r *http.Request) string {
	p := r.URL.Path
	switch {
	case r.URL.Host != "" || r.URL.Scheme != "" || r.URL.Opaque != "":
		return "the request target must be a path"
	case r.Method == http.MethodOptions && r.RequestURI == "*":
		return ""
	case p == "" || p[0] != '/':
		return "the path must begin with /"
	case r.URL.RawPath != "":
		return "the path must not be percent-encoded"
	}
	// Go leaves RawPath empty for some escapes, %21 among them: only what
	// routes and ids are made of may pass.
	for i := range len(p) {
		if p[i] != '/' && !messages.IDChar(p[i]) {
			return "the path holds a character that no route has"
		}
	}
	if strings.Contains(p, "//") || strings.Contains(p, "/./") || strings.Contains(p, "/../") ||
		strings.HasSuffix(p, "/.") || strings.HasSuffix(p, "/..") {
		return "the path must not hold //, /./ or /../"
	}
	return ""
}

// serveRoute runs a route: who calls, may they, is the request in order, then the handler.
func (s *Server) serveRoute(rt *route, w http.ResponseWriter, r *http.Request, param string) {
	start := time.Now()
	c := &call{s: s, w: w, r: r, op: rt.op, route: rt.template, param: param, again: rt.again, id: w.Header()["X-Request-Id"][0]}
	defer func() {
		if p := recover(); p != nil {
			s.recovered(c, p)
		}
		s.metrics.observe(rt.template, r.Method, c.status, time.Since(start))
		c.logAccess(time.Since(start))
	}()
	if rt.alias {
		h := w.Header()
		h["Deprecation"] = hdrDeprecated
		h["Link"] = []string{"<" + s.link(prefix) + strings.TrimPrefix(r.URL.Path, aliasPrefix) + `>; rel="successor-version"`}
	}
	if err := s.admit(c, rt); err != nil {
		c.problem(err)
	}
}

// recovered turns a panic into a 500. An answer that has begun is cut off.
func (s *Server) recovered(c *call, p any) {
	if err, ok := p.(error); ok && errors.Is(err, http.ErrAbortHandler) {
		panic(p)
	}
	s.logger.Error("handler panicked", slog.String("request_id", c.id), slog.String("route", c.route),
		slog.String("panic", fmt.Sprint(p)), slog.String("stack", string(debug.Stack())))
	s.metrics.panics.Inc()
	if c.status != 0 {
		panic(http.ErrAbortHandler)
	}
	c.problem(&messages.Error{Code: messages.CodeInternal, Message: "something went wrong inside Dash", NextStep: next.LookForRequestID})
}

func (s *Server) admit(c *call, rt *route) error {
	if rt.kind != streaming {
		defer c.detach()()
	}
	if connectionOf(c.r).probesOnly() && rt.kind != probing {
		return crowded()
	}
	if err := s.authenticate(c, rt); err != nil {
		return err
	}
	if c.param != "" || len(rt.op.ids) > 0 {
		if messages.CheckID(c.param) != nil {
			return invalid(messages.FieldError{Pointer: "path:" + rt.op.ids[0], Detail: messages.ErrBadID.Error()})
		}
	}
	var err error
	if c.query, err = rt.op.checkQuery(c.r.URL.RawQuery); err != nil {
		return err
	}
	if err := rt.op.checkHeaders(c.r.Header); err != nil {
		return err
	}
	if rt.op.body == nil {
		if err := c.refuseBody(); err != nil {
			return err
		}
	}
	defer func() { c.load.release() }()
	if rt.op.body != nil {
		if _, err := c.read(); err != nil {
			return err
		}
	}
	kind := rt.kind
	wait := c.wait()
	if wait > 0 {
		kind = waiting
	}
	leave, err := s.enter(c, kind)
	if err != nil {
		return err
	}
	defer leave()
	if err := c.still(); err != nil {
		return err
	}
	if kind == streaming {
		err := rt.handler(c)
		if errors.Is(err, context.Canceled) && c.r.Context().Err() != nil && s.ctx.Err() == nil {
			return errClientClosed
		}
		return err
	}
	// Streams set a deadline for each of their writes.
	_ = http.NewResponseController(c.w).SetWriteDeadline(time.Now().Add(wait + s.cfg.HandleTimeout + s.cfg.WriteTimeout))
	ctx, cancel := context.WithTimeout(c.r.Context(), wait+s.cfg.HandleTimeout)
	defer cancel()
	c.r = c.r.WithContext(ctx)
	h := rt.handler
	if rt.op.audited {
		h = c.audited(h)
	}
	if rt.replayable {
		return c.once(h)
	}
	return h(c)
}

// detach lets a request go on when its client closes its side of the
// connection: net/http takes that for the end of the client, but whoever has
// said all there is to say (nc -N, a proxy) still reads the answer, and what was
// begun is not told as something else. It is bounded all the same: each step has
// its own time, a long-poll looks at client, and a Stop cuts what is left.
func (c *call) detach() (release func()) {
	c.client = c.r.Context()
	ctx, cancel := context.WithCancel(context.WithoutCancel(c.client))
	stop := context.AfterFunc(c.s.cut, cancel)
	c.r = c.r.WithContext(ctx)
	return func() { stop(); cancel() }
}

// authenticate finds out who calls and refuses whoever may not, or not so often.
func (s *Server) authenticate(c *call, rt *route) error {
	a := rt.access
	if a.IsPublic() {
		return nil
	}
	c.access = a
	token, err := auth.Token(c.r.Header)
	if err != nil {
		return err
	}
	if token == "" {
		if a.IsInBand() {
			return nil
		}
		return auth.Missing()
	}
	if err := c.prove(token); err != nil {
		return err
	}
	if err := c.fresh(token); err != nil {
		return err
	}
	if rt.kind != probing {
		if err := c.charge(); err != nil {
			return err
		}
	}
	return a.Allows(c.principal)
}

// prove finds out whose token it is.
func (c *call) prove(token string) (err error) {
	c.principal, err = c.s.auth.Authenticate(c.r.Context(), token)
	c.proved = time.Now()
	if err == nil {
		connectionOf(c.r).prove()
	}
	return err
}

// staleHeader tells, in seconds, how long ago the store confirmed the credential
// for the last time, in an answer of a node that is cut off from its store.
const staleHeader = "Dash-Stale"

// fresh marks what is read while the store does not confirm credentials. A
// change waits a moment for that, and is refused.
func (c *call) fresh(token string) error {
	if c.principal.Stale.IsZero() {
		return nil
	}
	if c.r.Method == http.MethodGet || c.r.Method == http.MethodHead {
		c.w.Header()[staleHeader] = []string{strconv.Itoa(seconds(time.Since(c.principal.Stale)))}
		return nil
	}
	late := time.NewTimer(c.s.cfg.QueueTimeout)
	defer late.Stop()
	for {
		changed := c.s.auth.Changed() // before the look: what changes after it is seen
		if err := c.prove(token); err != nil || c.principal.Stale.IsZero() {
			return err
		}
		select {
		case <-changed:
		case <-c.r.Context().Done():
			return c.r.Context().Err()
		case <-late.C:
			return &messages.Error{
				Code: messages.CodeUnavailable, Message: "the store does not answer, so this node cannot tell whether the credential still holds: it only reads",
				NextStep: next.TryAgain, RetryAfter: time.Second,
			}
		}
	}
}

// provenFor is how long a caller may be on its way to its handler, in a queue or
// with a slow body, until it is asked again whether its credential still holds.
const provenFor = 100 * time.Millisecond

// still refuses a caller whose credential has ended since it was looked at.
func (c *call) still() error {
	if c.principal == nil || time.Since(c.proved) < provenFor {
		return nil
	}
	token, err := auth.Token(c.r.Header)
	if err == nil {
		err = c.prove(token)
	}
	if err == nil {
		err = c.fresh(token)
	}
	if err != nil {
		return err
	}
	return c.access.Allows(c.principal)
}

// wait is how long a long-poll may be held back, 0 for none.
func (c *call) wait() time.Duration {
	n, err := strconv.Atoi(c.query.Get("wait_seconds"))
	if err != nil {
		return 0 // absent: its form was checked against the document
	}
	return time.Duration(n) * time.Second
}

// enter takes a place among the requests of its kind.
func (s *Server) enter(c *call, k kind) (leave func(), err error) {
	switch {
	case k == probing: // must answer when everything else is full
		return func() {}, nil
	case k == hashing:
		return s.hashes.take(c.r.Context(), c.holders()[len(c.holders())-1:], hashPatience)
	case k == waiting:
		return s.waits.take(c.r.Context(), c.holders(), 0)
	case k == streaming && c.principal == nil: // it takes its place when it has said who it is
		ctx, leave := s.lobby.enter(c.r.Context(), c.s.origin(c.r))
		c.r, c.leaveLobby = c.r.WithContext(ctx), leave
		return leave, nil
	case k == streaming:
		return s.streams.take(c.r.Context(), c.holders(), 0)
	}
	return s.requests.take(c.r.Context(), c.holders(), s.cfg.QueueTimeout)
}

// holders are those whose places a request takes.
func (c *call) holders() []string {
	if c.principal != nil {
		return holders(c.principal)
	}
	return []string{c.s.origin(c.r)}
}

// holders are a key and the tenant that it is of.
func holders(p *auth.Principal) []string {
	if p.Tenant == "" {
		return []string{p.ID}
	}
	return []string{p.ID, "tenant:" + p.Tenant}
}

func crowded() error {
	return &messages.Error{
		Code: codeTooManyCalls, Message: "this node has as many connections as it can, all of them at work",
		NextStep: next.RepeatLater, RetryAfter: time.Second,
	}
}

func full() error {
	return &messages.Error{
		Code: codeTooManyCalls, Message: "this node answers as many requests of this kind as it can",
		NextStep: next.RepeatLater, RetryAfter: time.Second,
	}
}
