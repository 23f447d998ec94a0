package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/dash-fleet/dash/http/api"
	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/messages/next"
)

const (
	defaultURL = "http://127.0.0.1:7373"
	// callTimeout bounds one call; long polls add what they wait for.
	callTimeout = 30 * time.Second
	// quietLimit is how long an answer that has begun may say nothing at all;
	// a stream sends heartbeats more often.
	quietLimit = 60 * time.Second
)

// client calls the API of one node, one call at a time, and turns what goes
// wrong into words.
type client struct {
	api  *api.Client
	base string // as the user gave it
	// keyless says why there is no key; empty when there is one.
	keyless string
	// pause is the first pause before a stream is opened again; it doubles.
	pause time.Duration
	last  *lastAnswer
}

// lastAnswer is a transport that says who calls, keeps the headers of the last
// answer, and ends an answer that stops arriving.
type lastAnswer struct {
	next   http.RoundTripper
	header http.Header
}

func (l *lastAnswer) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set("User-Agent", "dash/"+version)
	resp, err := l.next.RoundTrip(r)
	if err == nil {
		l.header = resp.Header
		body := resp.Body
		// The only error is that of a body which is closed already.
		quiet := time.AfterFunc(quietLimit, func() { _ = body.Close() })
		resp.Body = &lively{ReadCloser: body, quiet: quiet}
	}
	return resp, err
}

// lively is the body of an answer: it is closed when nothing arrives for
// quietLimit.
type lively struct {
	io.ReadCloser
	quiet *time.Timer
}

func (l *lively) Read(p []byte) (int, error) {
	n, err := l.ReadCloser.Read(p)
	if n > 0 {
		l.quiet.Reset(quietLimit)
	}
	return n, err
}

func (l *lively) Close() error {
	l.quiet.Stop()
	return l.ReadCloser.Close()
}

// newClient reads DASH_URL and DASH_API_KEY. Without a key it takes the one
// that a node of this user on this machine has written, if it listens there.
func newClient(t *terminal) (*client, error) {
	base := t.getenv("DASH_URL")
	if base == "" {
		base = defaultURL
	}
	u, err := url.Parse(base)
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" || u.User != nil || u.RawQuery != "" {
		return nil, usage(fmt.Sprintf(next.SetURLExample, defaultURL), "DASH_URL is not an http or https URL")
	}
	c := &client{base: strings.TrimRight(base, "/"), pause: 100 * time.Millisecond, last: &lastAnswer{next: &http.Transport{
		Proxy:               http.ProxyFromEnvironment,
		DialContext:         (&net.Dialer{Timeout: 5 * time.Second}).DialContext,
		TLSHandshakeTimeout: 5 * time.Second,
		IdleConnTimeout:     30 * time.Second,
	}}}
	key := messages.Secret(strings.TrimSpace(t.getenv("DASH_API_KEY")))
	if key.Empty() {
		key, c.keyless = localKey(t, u)
	}
	c.api, err = api.NewClient(c.base, key.Reveal(), &http.Client{
		Transport: c.last,
		// A key must not follow a redirect to somebody else.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	})
	if err != nil {
		return nil, usage(fmt.Sprintf(next.SetURLExample, defaultURL), "DASH_URL: %s", err)
	}
	return c, nil
}

// request is one call.
type request struct {
	method, path string // path below /api/v1
	query        url.Values
	header       http.Header
	body         any
	// wait is how long the server may hold its answer back.
	wait time.Duration
}

func get(path string, query url.Values) request {
	return request{method: http.MethodGet, path: path, query: query}
}

// post carries an idempotency key, so that a proxy's repetition does no harm.
func post(path string, body any) request {
	return request{method: http.MethodPost, path: path, body: body, header: http.Header{"Idempotency-Key": {messages.NewID()}}}
}

// call sends a request and decodes the answer into out, which may be nil.
func (c *client) call(ctx context.Context, r request, out any) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout+r.wait)
	defer cancel()
	return c.told(c.api.Do(ctx, r.method, r.path, r.query, r.body, out, func(h http.Header) {
		for k, v := range r.header {
			h[k] = v
		}
	}))
}

// told puts an error of the API's client into words. Errors are *failure,
// except for an interrupt.
func (c *client) told(err error) error {
	var refusal *api.Error
	var f *failure
	var reach *url.Error
	switch {
	case err == nil, errors.Is(err, context.Canceled), errors.As(err, &f):
		return err
	case errors.As(err, &refusal):
		return c.refused(refusal)
	case errors.Is(err, context.DeadlineExceeded) || os.IsTimeout(err):
		return &failure{code: exitUnavailable, what: c.base + " did not answer in time", next: next.TryAgainDoctor, err: err}
	case errors.As(err, &reach):
		return &failure{code: exitUnavailable, what: fmt.Sprintf("no Dash node answers at %s: %v", c.base, reach.Err), err: err,
			next: next.StartNode}
	case errors.Is(err, io.ErrUnexpectedEOF):
		return &failure{code: exitUnavailable, what: fmt.Sprintf("the answer of %s broke off: %v", c.base, err), next: next.TryAgain, err: err}
	}
	return &failure{code: exitFailed, what: "the answer of " + c.base + " is not what this version of dash expects: " + err.Error(),
		next: next.CompareVersions, err: err}
}

// refused turns a refusal into a failure.
func (c *client) refused(p *api.Error) error {
	f := &failure{code: exitOfStatus(p.Status), what: p.Detail, next: deref(p.NextStep), requestID: p.RequestId, err: p}
	if f.what == "" {
		f.what = p.Title
	}
	if p.Code == string(messages.CodeKeyReused) {
		f.code = exitConflict // the request as such is well formed
	}
	if strings.HasPrefix(p.Code, "http_") {
		f.what = fmt.Sprintf("%s answers %s, and not as Dash does", c.base, p.Title)
		f.next = next.CheckDashURL
	}
	for _, e := range deref(p.Errors) {
		f.fields = append(f.fields, messages.FieldError{Pointer: e.Pointer, Detail: e.Detail})
	}
	if p.Queue != nil {
		f.what += fmt.Sprintf(" (%d of %d places taken)", p.Queue.Position, p.Queue.Limit)
	}
	if p.RetryAfter > 0 {
		f.what += fmt.Sprintf("; it may succeed in %s", age(p.RetryAfter))
	}
	if p.Status == http.StatusUnauthorized && c.keyless != "" {
		f.what, f.next = "no API key: "+c.keyless, next.SetAPIKey
	}
	return f
}

func exitOfStatus(status int) int {
	switch status {
	case http.StatusUnauthorized, http.StatusForbidden:
		return exitAuth
	case http.StatusNotFound, http.StatusGone:
		return exitNotFound
	case http.StatusConflict, http.StatusPreconditionFailed, http.StatusPreconditionRequired:
		return exitConflict
	case http.StatusBadRequest, http.StatusUnprocessableEntity, http.StatusRequestEntityTooLarge, http.StatusUnsupportedMediaType:
		return exitUsage
	case http.StatusTooManyRequests, http.StatusServiceUnavailable, http.StatusBadGateway, http.StatusGatewayTimeout, http.StatusRequestTimeout:
		return exitUnavailable
	}
	return exitFailed
}

// page is the form of every list.
type page[T any] struct {
	Items      []T     `json:"items"`
	NextCursor *string `json:"next_cursor"`
}

// listAll follows the cursors until it has limit items (0: all of them). more
// reports that there are others.
func listAll[T any](ctx context.Context, c *client, path string, query url.Values, limit int) (items []T, more bool, err error) {
	q := url.Values{}
	for k, v := range query {
		q[k] = v
	}
	for {
		size := 1000
		if limit > 0 {
			size = min(size, limit-len(items))
		}
		q.Set("limit", fmt.Sprint(size))
		var p page[T]
		if err := c.call(ctx, get(path, q), &p); err != nil {
			return items, false, err
		}
		items = append(items, p.Items...)
		switch {
		case p.NextCursor == nil || *p.NextCursor == "":
			return items, false, nil
		case *p.NextCursor == q.Get("cursor"):
			return items, false, &failure{what: "the list does not end: " + path + " gave the same cursor twice", next: next.ReportEndlessList}
		case limit > 0 && len(items) >= limit:
			return items, true, nil
		}
		q.Set("cursor", *p.NextCursor)
	}
}
