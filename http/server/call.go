package server

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net/http"
	"net/url"
	"path"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/dash-fleet/dash/http/auth"
	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/messages/next"
)

// gzipFrom is the size of an answer from which compressing pays.
const gzipFrom = 8 << 10

// call is one request on its way through a handler.
type call struct {
	s          *Server
	w          http.ResponseWriter
	r          *http.Request
	client     context.Context // of a request that has one of its own: ends when the client closes its side
	op         *operation
	route      string // template, for logs and metrics
	id         string // request id
	param      string // the path parameter {id} or {code}
	query      url.Values
	principal  *auth.Principal // nil on a public route
	proved     time.Time       // when the credential was looked at
	access     auth.Access
	leaveLobby func()        // of a WebSocket that has not said who it is
	status     int           // answered, 0: not yet
	raw        []byte        // the body, once read
	load       *held         // what it takes of the room for bodies
	copy       *bytes.Buffer // the answer is copied here too, see replies.go
	kept       []byte        // what copy shall hold instead, when the answer is secret
	made       string        // id of what was created
	change     *Change       // its success goes into the audit log before it is answered; nil: it changes nothing
	of         string        // its tenant, where the path does not tell it
	again      handler       // shows what the operation changes, nil: nothing does
	repeats    int           // the status of the answer that is given again, 0: this is none
}

func (c *call) ctx() context.Context { return c.r.Context() }

// tenant is whose things the caller may see; empty: everybody's.
func (c *call) tenant() string { return c.principal.Tenant }

// ownTenant is the tenant that a request means which names one or none.
func (c *call) ownTenant(named *string) (string, error) {
	own := c.principal.Tenant
	switch {
	case named == nil || *named == "":
		if own == "" {
			return messages.DefaultTenant, nil
		}
		return own, nil
	case own != "" && *named != own:
		return "", otherTenant()
	}
	return *named, nil
}

// filterTenant is the tenant that a list is narrowed to.
func (c *call) filterTenant(named string) (string, error) {
	own := c.principal.Tenant
	if named == "" || own == "" || named == own {
		return cmpOr(named, own), nil
	}
	return "", otherTenant()
}

func otherTenant() error {
	return &messages.Error{
		Code: messages.CodeForbidden, Message: "this credential belongs to another tenant",
		NextStep: next.LeaveTenantOut,
	}
}

func cmpOr(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

// limit is the page size asked for.
func (c *call) limit() int {
	if n, err := strconv.Atoi(c.query.Get("limit")); err == nil {
		return n // checked against the document before
	}
	return 100
}

// body reads and checks the body and decodes it into v; v stays as it is when
// there is none and none is needed.
func (c *call) body(v any) error {
	raw, err := c.read()
	if err != nil || len(raw) == 0 {
		return err
	}
	tree, err := parse(raw)
	if err != nil {
		return err
	}
	if err := c.op.checkBody(tree); err != nil {
		return err
	}
	return decode(raw, v)
}

// decode fills v from a body that fits its schema. What still does not fit is
// a number like 1.0 for an integer.
func decode(raw []byte, v any) error {
	err := json.Unmarshal(raw, v)
	var wrongType *json.UnmarshalTypeError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &wrongType):
		return invalid(messages.FieldError{Pointer: "/" + strings.ReplaceAll(wrongType.Field, ".", "/"), Detail: "must be written as a whole number"})
	}
	return invalid(messages.FieldError{Detail: err.Error()})
}

// read returns the body within its limits; it may be called again.
func (c *call) read() ([]byte, error) {
	if c.raw != nil {
		return c.raw, nil
	}
	if c.r.ContentLength == 0 {
		return c.noBody()
	}
	if err := checkMediaType(c.r.Header); err != nil {
		return nil, err
	}
	limit := c.s.cfg.MaxBody
	if c.r.ContentLength > limit {
		return nil, tooLarge(limit)
	}
	raw, err := c.receive(limit)
	switch {
	case err != nil:
		return nil, err
	case int64(len(raw)) > limit:
		return nil, tooLarge(limit)
	}
	_ = http.NewResponseController(c.w).SetReadDeadline(time.Time{}) // see ServeHTTP
	if err := c.still(); err != nil {
		return nil, err
	}
	if len(raw) == 0 {
		return c.noBody()
	}
	c.raw = raw
	return c.raw, nil
}

func incomplete(err error) error {
	return &messages.Error{Code: messages.CodeInvalid, Message: "the body did not arrive in full", NextStep: next.SendWholeBody, Err: err}
}

func (c *call) noBody() ([]byte, error) {
	if c.op.needBody {
		return nil, invalid(messages.FieldError{Detail: "a JSON body is expected"})
	}
	return nil, nil
}

func tooLarge(limit int64) error {
	return &messages.Error{
		Code: messages.CodeTooLarge, Message: "the body is larger than " + strconv.FormatInt(limit, 10) + " bytes",
		NextStep: next.SendLess,
	}
}

// refuseBody refuses a body where none is expected.
func (c *call) refuseBody() error {
	if c.r.ContentLength == 0 {
		return nil
	}
	var one [1]byte
	if n, err := io.ReadFull(c.r.Body, one[:]); n == 0 && errors.Is(err, io.EOF) {
		return nil
	}
	return invalid(messages.FieldError{Detail: "this operation takes no body"})
}

func checkMediaType(h http.Header) error {
	if h.Get("Content-Encoding") != "" {
		return &messages.Error{Code: codeMediaType, Message: "the body must not be compressed", NextStep: next.SendUncompressed}
	}
	v := h.Get("Content-Type")
	if v == "application/json" {
		return nil
	}
	media, params, err := mime.ParseMediaType(v)
	charset := params["charset"]
	delete(params, "charset")
	if err != nil || media != "application/json" || len(params) > 0 || (charset != "" && !strings.EqualFold(charset, "utf-8")) {
		return &messages.Error{Code: codeMediaType, Message: "the body must be application/json in UTF-8", NextStep: next.SendJSONType}
	}
	return nil
}

// idempotency returns the client's key and the hash of what it asks for, or
// nothing when it sent no key.
func (c *call) idempotency(canonical any) (key string, hash []byte, err error) {
	key = c.r.Header.Get("Idempotency-Key")
	if key == "" {
		return "", nil, nil
	}
	b, err := json.Marshal(canonical)
	if err != nil {
		return "", nil, err
	}
	h := sha256.New()
	h.Write([]byte(c.op.id + "\n" + c.param + "\n"))
	h.Write(b)
	return key, h.Sum(nil), nil
}

// ok answers with a value.
func (c *call) ok(status int, v any) error {
	c.write(status, "application/json", v)
	return nil
}

// created answers with a new thing and where it is.
func (c *call) created(status int, location string, v any) error {
	c.w.Header()["Location"] = []string{c.s.link(location)}
	c.made = path.Base(location)
	return c.ok(status, v)
}

// etag names the version of what is answered.
func (c *call) etag(version int64) {
	c.w.Header().Set("ETag", `"`+strconv.FormatInt(version, 10)+`"`)
}

// ifMatch is the version the change is based on, 0 when none was named.
func (c *call) ifMatch() int64 {
	n, err := strconv.ParseInt(strings.Trim(c.r.Header.Get("If-Match"), `"`), 10, 64)
	if err != nil {
		return 0 // absent: its form was checked against the document
	}
	return n
}

var buffers = sync.Pool{New: func() any { return new(bytes.Buffer) }}

var gzips = sync.Pool{New: func() any {
	z, err := gzip.NewWriterLevel(io.Discard, gzip.BestSpeed)
	if err != nil {
		panic(err) // the level is a constant
	}
	return z
}}

// write encodes v and answers, once.
func (c *call) write(status int, media string, v any) {
	buf := buffers.Get().(*bytes.Buffer)
	defer func() {
		if buf.Cap() <= 1<<20 {
			buffers.Put(buf)
		}
	}()
	buf.Reset()
	enc := json.NewEncoder(buf)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		c.s.logger.Error("answer not encoded", "request_id", c.id, "route", c.route, "err", err)
		http.Error(c.w, "", http.StatusInternalServerError)
		c.status = http.StatusInternalServerError
		return
	}
	c.bytes(status, media, buf.Bytes())
}

// bytes answers with a body.
func (c *call) bytes(status int, media string, b []byte) {
	if c.status != 0 {
		return
	}
	if c.repeats != 0 {
		status = c.repeats
	}
	c.status = status
	c.recordChange()
	if c.copy != nil {
		if c.kept != nil {
			c.copy.Write(c.kept)
		} else {
			c.copy.Write(b)
		}
	}
	h := c.w.Header()
	h["Content-Type"] = []string{media}
	if len(b) >= gzipFrom {
		h.Add("Vary", "Accept-Encoding")
		if acceptsGzip(c.r.Header) {
			c.gzip(status, b)
			return
		}
	}
	h["Content-Length"] = []string{strconv.Itoa(len(b))}
	c.w.WriteHeader(status)
	_, _ = c.w.Write(b) // the client is gone; there is nobody to tell
}

func acceptsGzip(h http.Header) bool {
	for part := range strings.SplitSeq(h.Get("Accept-Encoding"), ",") {
		name, q, _ := strings.Cut(strings.TrimSpace(part), ";")
		if strings.EqualFold(strings.TrimSpace(name), "gzip") {
			q = strings.ReplaceAll(q, " ", "")
			return q != "q=0" && q != "q=0.0" && q != "q=0.00" && q != "q=0.000"
		}
	}
	return false
}

func (c *call) gzip(status int, b []byte) {
	c.w.Header().Set("Content-Encoding", "gzip")
	c.w.WriteHeader(status)
	z := gzips.Get().(*gzip.Writer)
	defer gzips.Put(z)
	z.Reset(c.w)
	_, _ = z.Write(b) // the client is gone; there is nobody to tell
	_ = z.Close()
}
