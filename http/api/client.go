package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// Client calls the API. It is safe for concurrent use and retries nothing: a
// caller that repeats a write should send the same idempotency key. The zero
// HTTP client has no time-out of its own, each call is bounded by its ctx.
type Client struct {
	base  string
	token string
	http  *http.Client
}

// maxAnswer bounds what is read of one answer.
const maxAnswer = 256 << 20

// NewClient returns a client of the node at base, "http://127.0.0.1:7373".
// token is an API key, empty for public operations; c may be nil.
func NewClient(base, token string, c *http.Client) (*Client, error) {
	u, err := url.Parse(base)
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" {
		return nil, fmt.Errorf("%q is no address of Dash: use http://host:port", base)
	}
	if c == nil {
		c = &http.Client{}
	}
	return &Client{base: strings.TrimSuffix(base, "/"), token: token, http: c}, nil
}

// Error is a refusal by the API.
type Error struct {
	Problem
	// RetryAfter is set when the same request may succeed later.
	RetryAfter time.Duration
}

func (e *Error) Error() string {
	s := e.Detail
	if e.NextStep != nil {
		s += "; " + *e.NextStep
	}
	return fmt.Sprintf("%s (%d %s, request %s)", s, e.Status, e.Code, e.RequestId)
}

// CodeOf is the code of an API refusal in err's chain, empty when there is none.
func CodeOf(err error) string {
	var e *Error
	if errors.As(err, &e) {
		return e.Code
	}
	return ""
}

// Option changes one call.
type Option func(http.Header)

// WithIdempotencyKey makes a write safe to repeat.
func WithIdempotencyKey(key string) Option {
	return func(h http.Header) { h.Set("Idempotency-Key", key) }
}

// WithVersion bases a change on a version.
func WithVersion(version int64) Option {
	return func(h http.Header) { h.Set("If-Match", `"`+strconv.FormatInt(version, 10)+`"`) }
}

// WithCreateOnly creates and refuses to replace.
func WithCreateOnly() Option {
	return func(h http.Header) { h.Set("If-None-Match", "*") }
}

// WithLastEventID resumes a stream after an event.
func WithLastEventID(seq int64) Option {
	return func(h http.Header) { h.Set("Last-Event-ID", strconv.FormatInt(seq, 10)) }
}

// Do calls an operation that the methods below do not cover. path begins
// behind the prefix; in and out may be nil. Any refusal is an *Error.
func (c *Client) Do(ctx context.Context, method, path string, query url.Values, in, out any, opts ...Option) error {
	resp, err := c.send(ctx, method, "/api/v1"+path, query, in, opts)
	if err != nil {
		return err
	}
	defer resp.Body.Close() //nolint:errcheck // read only
	if out == nil || resp.StatusCode == http.StatusNoContent {
		_, err = io.Copy(io.Discard, io.LimitReader(resp.Body, maxAnswer))
	} else {
		err = json.NewDecoder(io.LimitReader(resp.Body, maxAnswer)).Decode(out)
	}
	if err != nil {
		return fmt.Errorf("%s %s: read answer: %w", method, path, err)
	}
	return nil
}

// send makes a request and returns the answer if it is no refusal.
func (c *Client) send(ctx context.Context, method, path string, query url.Values, in any, opts []Option) (*http.Response, error) {
	var body io.Reader
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			return nil, fmt.Errorf("%s %s: write request: %w", method, path, err)
		}
		body = bytes.NewReader(b)
	}
	target := c.base + path
	if len(query) > 0 {
		target += "?" + query.Encode()
	}
	req, err := http.NewRequestWithContext(ctx, method, target, body)
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", method, path, err)
	}
	if in != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if c.token != "" {
		req.Header.Set("Authorization", "Bearer "+c.token)
	}
	for _, o := range opts {
		o(req.Header)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, fmt.Errorf("reach Dash: %w", err)
	}
	if resp.StatusCode >= 300 {
		defer resp.Body.Close() //nolint:errcheck // read only
		return nil, problem(resp)
	}
	return resp, nil
}

// problem reads a refusal; one that Dash did not write gets its status as words.
func problem(resp *http.Response) error {
	e := &Error{}
	b, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil || json.Unmarshal(b, &e.Problem) != nil || e.Code == "" {
		e.Problem = Problem{
			Status: resp.StatusCode, Title: resp.Status, Code: "http_" + strconv.Itoa(resp.StatusCode),
			Detail: "the answer is " + resp.Status + " and not from Dash", RequestId: resp.Header.Get("X-Request-Id"),
		}
	}
	if n, err := strconv.Atoi(resp.Header.Get("Retry-After")); err == nil {
		e.RetryAfter = time.Duration(n) * time.Second
	}
	return e
}

func call[T any](ctx context.Context, c *Client, method, path string, query url.Values, in any, opts []Option) (*T, error) {
	out := new(T)
	if err := c.Do(ctx, method, path, query, in, out, opts...); err != nil {
		return nil, err
	}
	return out, nil
}

func seg(s string) string { return "/" + url.PathEscape(s) }
