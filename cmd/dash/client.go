package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/dash-fleet/dash/http/api"
	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/messages/next"
)

const (
	defaultURL = "http://127.0.0.1:7373"
	// quietLimit is how long an answer that has begun may say nothing at all;
	// a stream sends heartbeats more often.
	quietLimit = 60 * time.Second
)

// client calls the API of one node, one call at a time, and turns what goes
// wrong into words. When a node cannot be reached, or only stands by, it goes on
// to the next one that DASH_URL names.
type client struct {
	node
	nodes []node
	at    int
	// pause is the first pause before a stream is opened or a call is made
	// again; it doubles.
	pause time.Duration
	// patience bounds a call, and tryFor one try of it.
	patience, tryFor time.Duration
	last             *lastAnswer
	talk             io.Writer
}

// node is one address of DASH_URL.
type node struct {
	api  *api.Client
	base string // as the user gave it
	// keyless says why there is no key; empty when there is one.
	keyless string
}

// other goes on to the next address, and says whether it is one that the tries
// before, n of them, did not come to.
func (c *client) other(n int) bool {
	c.at = (c.at + 1) % len(c.nodes)
	c.node = c.nodes[c.at]
	return n+1 < len(c.nodes)
}

// addresses are all that DASH_URL names.
func (c *client) addresses() string {
	all := make([]string, len(c.nodes))
	for i, n := range c.nodes {
		all[i] = n.base
	}
	return strings.Join(all, ", ")
}

// lastAnswer is a transport that says who calls, keeps the headers of the last
// answer, and ends an answer that stops arriving.
type lastAnswer struct {
	next http.RoundTripper

	mu     sync.Mutex
	header http.Header
}

func (l *lastAnswer) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set("User-Agent", "dash/"+version)
	resp, err := l.next.RoundTrip(r)
	if err == nil {
		l.mu.Lock()
		l.header = resp.Header
		l.mu.Unlock()
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

// newClient reads DASH_URL, and DASH_API_KEY or DASH_API_KEY_FILE. Without a
// key it takes the one that a node of this user on this machine has written, if
// that node lives; such a key is sent to that node alone.
func newClient(t *terminal) (*client, error) {
	key, err := givenKey(t)
	if err != nil {
		return nil, err
	}
	c := &client{
		pause: 100 * time.Millisecond, patience: cmp.Or(t.patience, callTimeout), talk: t.err,
		last: &lastAnswer{next: &http.Transport{
			Proxy:               http.ProxyFromEnvironment,
			DialContext:         (&net.Dialer{Timeout: 5 * time.Second}).DialContext,
			TLSHandshakeTimeout: 5 * time.Second,
			IdleConnTimeout:     30 * time.Second,
		}},
	}
	c.tryFor = c.patience / triesOfCall
	for _, base := range strings.Split(cmp.Or(strings.TrimSpace(t.getenv("DASH_URL")), defaultURL), ",") {
		n, err := c.newNode(t, strings.TrimSpace(base), key)
		if err != nil {
			return nil, err
		}
		c.nodes = append(c.nodes, n)
	}
	c.node = c.nodes[0]
	return c, nil
}

func (c *client) newNode(t *terminal, base string, key messages.Secret) (n node, err error) {
	u, err := url.Parse(base)
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" || u.User != nil || strings.ContainsAny(base, "?#") {
		return n, usage(fmt.Sprintf(next.SetURLExample, defaultURL), "DASH_URL is not an http or https URL")
	}
	// Documents write addresses with the prefix, so people copy it.
	n.base = strings.TrimSuffix(strings.TrimRight(base, "/"), "/api/v1")
	address := n.base
	if key.Empty() {
		var at string
		if key, at, n.keyless = localKey(t, u); at != "" {
			address = at
		}
	}
	n.api, err = api.NewClient(address, key.Reveal(), &http.Client{
		Transport: c.last,
		// A key must not follow a redirect to somebody else.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	})
	if err != nil {
		return n, usage(fmt.Sprintf(next.SetURLExample, defaultURL), "DASH_URL: %s", err)
	}
	return n, nil
}

// maxKey is more than any key has.
const maxKey = 4 << 10

// givenKey is the key that the environment names.
func givenKey(t *terminal) (messages.Secret, error) {
	key, from := strings.TrimSpace(t.getenv("DASH_API_KEY")), "DASH_API_KEY"
	if path := t.getenv("DASH_API_KEY_FILE"); key == "" && path != "" {
		from = "DASH_API_KEY_FILE"
		f, err := os.Open(path)
		if err != nil {
			return "", usage(fmt.Sprintf(next.CheckVariable, from), "the file that DASH_API_KEY_FILE names cannot be read: %v", err)
		}
		defer f.Close()
		raw, err := io.ReadAll(io.LimitReader(f, maxKey+1))
		if err != nil {
			return "", usage(fmt.Sprintf(next.CheckVariable, from), "the file that DASH_API_KEY_FILE names cannot be read: %v", err)
		}
		if key = strings.TrimSpace(string(raw)); key == "" {
			return "", usage(fmt.Sprintf(next.KeyAlone, from), "the file that DASH_API_KEY_FILE names is empty")
		}
	}
	if len(key) > maxKey || strings.ContainsFunc(key, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return "", usage(fmt.Sprintf(next.KeyAlone, from), "%s holds something else than one key, such as a line break in the middle", from)
	}
	return messages.Secret(key), nil
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
		f.what, f.next = fmt.Sprintf("%s answers %s, and not as Dash does", c.base, p.Title), next.CheckDashURL
		if strings.HasPrefix(c.base, "http:") && p.Status == http.StatusBadRequest {
			f.next = next.CheckDashURLOrHTTPS
		}
	}
	for _, e := range deref(p.Errors) {
		f.fields = append(f.fields, messages.FieldError{Pointer: e.Pointer, Detail: e.Detail})
	}
	if p.Queue != nil {
		f.what += fmt.Sprintf(" (%d of %d places taken)", p.Queue.Position, p.Queue.Limit)
	}
	// Of a 503 nobody knows when it ends: that of a node that stands by may last for days.
	if p.RetryAfter > 0 && p.Status == http.StatusTooManyRequests {
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
