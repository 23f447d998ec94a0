package main

import (
	"bytes"
	"context"
	"encoding/json"
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
)

const (
	defaultURL = "http://127.0.0.1:7373"
	// callTimeout bounds one call; long polls add what they wait for.
	callTimeout = 30 * time.Second
	// maxAnswer bounds an answer, in bytes: a page of 1,000 tasks with the
	// longest messages stays below it.
	maxAnswer = 1 << 30
)

// client calls the API of one node.
type client struct {
	base string // without a slash at the end
	key  messages.Secret
	// keyless says, for the error text, why there is no key.
	keyless string
	http    *http.Client
	// pause is the first pause before a stream is opened again; it doubles.
	pause time.Duration
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
		return nil, usage("set it to the node's address, for example "+defaultURL, "DASH_URL is not an http or https URL")
	}
	c := &client{
		base: strings.TrimRight(base, "/"), key: messages.Secret(strings.TrimSpace(t.getenv("DASH_API_KEY"))), pause: 100 * time.Millisecond,
		http: &http.Client{
			Transport: &http.Transport{
				Proxy:               http.ProxyFromEnvironment,
				DialContext:         (&net.Dialer{Timeout: 5 * time.Second}).DialContext,
				TLSHandshakeTimeout: 5 * time.Second,
				IdleConnTimeout:     30 * time.Second,
			},
			// A key must not follow a redirect to somebody else.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}
	if c.key.Empty() {
		c.key, c.keyless = localKey(t, u)
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

// call sends a request and decodes the answer into out, which may be nil. It
// returns the answer's header. Errors are *failure.
func (c *client) call(ctx context.Context, r request, out any) (http.Header, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout+r.wait)
	defer cancel()
	resp, err := c.send(ctx, r)
	if err != nil {
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	raw, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return nil, c.unreachable(err)
	}
	if resp.StatusCode >= 300 {
		return nil, c.refused(resp, raw)
	}
	if out != nil {
		if err := json.Unmarshal(raw, out); err != nil {
			return nil, &failure{code: exitFailed, what: "the answer of " + c.base + " is not what this version of dash expects: " + err.Error(),
				next: "compare `dash version` with the version of the node (`dash doctor`)", err: err}
		}
	}
	return resp.Header, nil
}

// send returns the answer with its body open.
func (c *client) send(ctx context.Context, r request) (*http.Response, error) {
	var body io.Reader
	if r.body != nil {
		raw, err := json.Marshal(r.body)
		if err != nil {
			return nil, fmt.Errorf("encode the request: %w", err)
		}
		body = bytes.NewReader(raw)
	}
	target := c.base + "/api/v1" + r.path
	if len(r.query) > 0 {
		target += "?" + r.query.Encode()
	}
	req, err := http.NewRequestWithContext(ctx, r.method, target, body)
	if err != nil {
		return nil, usage("check the id", "the request cannot be built: %s", err)
	}
	for k, v := range r.header {
		req.Header[k] = v
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if !c.key.Empty() {
		req.Header.Set("Authorization", "Bearer "+c.key.Reveal())
	}
	req.Header.Set("User-Agent", "dash/"+version)
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, c.unreachable(err)
	}
	return resp, nil
}

func (c *client) unreachable(err error) error {
	if errors.Is(err, context.Canceled) {
		return err
	}
	var ue *url.Error
	if errors.As(err, &ue) {
		err = ue.Err
	}
	f := &failure{code: exitUnavailable, what: fmt.Sprintf("no Dash node answers at %s: %v", c.base, err), err: err,
		next: "start one with `dash serve --dev`, or set DASH_URL to the address of a running node"}
	if errors.Is(err, context.DeadlineExceeded) || os.IsTimeout(err) {
		f.what = fmt.Sprintf("%s did not answer in time", c.base)
		f.next = "try again; `dash doctor` shows what is wrong"
	}
	return f
}

// refused turns an error answer into a failure.
func (c *client) refused(resp *http.Response, raw []byte) error {
	f := &failure{code: exitOfStatus(resp.StatusCode), requestID: resp.Header.Get("X-Request-Id")}
	var p api.Problem
	if json.Unmarshal(raw, &p) != nil || p.Code == "" {
		f.what = fmt.Sprintf("%s answered %s", c.base, resp.Status)
		f.next = "check that DASH_URL is the address of a Dash node"
		return f
	}
	f.what, f.err = p.Detail, &messages.Error{Code: messages.Code(p.Code), Message: p.Detail}
	if p.Detail == "" {
		f.what = p.Title
	}
	if p.NextStep != nil {
		f.next = *p.NextStep
	}
	if p.RequestId != "" {
		f.requestID = p.RequestId
	}
	if p.Errors != nil {
		for _, e := range *p.Errors {
			f.fields = append(f.fields, messages.FieldError{Pointer: e.Pointer, Detail: e.Detail})
		}
	}
	if p.Queue != nil {
		f.what += fmt.Sprintf(" (%d of %d places taken)", p.Queue.Position, p.Queue.Limit)
	}
	if after := resp.Header.Get("Retry-After"); after != "" {
		f.what += fmt.Sprintf("; it may succeed in %s s", clean(after))
	}
	if resp.StatusCode == http.StatusUnauthorized && c.key.Empty() {
		f.what, f.next = "no API key: "+c.keyless, "set DASH_API_KEY; the key was printed at the node's first start and is in its admin.key file"
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
		if _, err := c.call(ctx, get(path, q), &p); err != nil {
			return items, false, err
		}
		items = append(items, p.Items...)
		switch {
		case p.NextCursor == nil || *p.NextCursor == "" || len(p.Items) == 0:
			return items, false, nil
		case limit > 0 && len(items) >= limit:
			return items, true, nil
		}
		q.Set("cursor", *p.NextCursor)
	}
}
