package fakemodel

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// plan is how one call is answered.
type plan struct {
	number int
	delay  time.Duration
	pause  time.Duration
	chunks int
	gate   string
	fail   string
	text   string
	cached int // input tokens that the provider had in its cache
	finish string
	spawn  string // task of a sub-agent that the model asks for first
}

var spawnMark = regexp.MustCompile(`\[\[spawn=[^\]]*\]\]`)

var mark = regexp.MustCompile(`\[\[(delay|gate|fail|reply|chunks|chunkms|cached|spawn)=([^\]]*)\]\]`)

const echoed = 4096

func newPlan(set Settings, r Request, marked string) plan {
	p := plan{delay: time.Duration(set.DelayMS) * time.Millisecond, pause: time.Duration(set.ChunkMS) * time.Millisecond,
		chunks: set.Chunks, fail: set.Fail, text: set.Reply}
	if p.chunks <= 0 {
		p.chunks = 4
	}
	if p.text == "" {
		said := strings.TrimSpace(mark.ReplaceAllString(r.Last, ""))
		if len(said) > echoed {
			said = strings.ToValidUTF8(said[len(said)-echoed:], "")
		}
		p.text = fmt.Sprintf("ECHO(%d): %s", r.Users, said)
	}
	for _, m := range mark.FindAllStringSubmatch(marked, -1) {
		n, err := strconv.Atoi(m[2])
		number := err == nil && n >= 0
		switch {
		case m[1] == "gate":
			p.gate = m[2]
		case m[1] == "fail":
			p.fail = m[2]
		case m[1] == "reply":
			p.text = m[2]
		case m[1] == "delay" && number:
			p.delay = time.Duration(n) * time.Millisecond
		case m[1] == "chunkms" && number:
			p.pause = time.Duration(n) * time.Millisecond
		case m[1] == "chunks" && number && n > 0:
			p.chunks = n
		case m[1] == "spawn":
			p.spawn = m[2]
		case m[1] == "cached" && number:
			p.cached = n
		}
	}
	p.shape()
	return p
}

// wait sleeps unless the caller or the server goes.
func (s *Server) wait(r *http.Request, d time.Duration) error {
	if d <= 0 {
		return nil
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-r.Context().Done():
	case <-s.quit:
	}
	return errAbandoned
}

// pass waits at the plan's gate.
func (s *Server) pass(r *http.Request, p plan) error {
	if p.gate == "" {
		return nil
	}
	select {
	case <-s.gate(p.gate):
		return nil
	case <-r.Context().Done():
	case <-s.quit:
	}
	return errAbandoned
}

// shape turns the modes that are no HTTP error into the answer that they are.
func (p *plan) shape() {
	p.finish = finishStop
	if p.spawn != "" {
		p.text = "" // at first
	}
	switch p.fail {
	case "empty":
		p.text = ""
	case "filter":
		p.text, p.finish = "", finishFilter
	case "refuse":
		p.text, p.finish = "", finishRefusal
	}
}

// Ends of an answer, in the words of chat completions where they have one.
const (
	finishStop    = "stop"
	finishFilter  = "content_filter"
	finishRefusal = "refusal"
)

// answer carries out what all APIs have in common, then lets the call's own API
// write the reply.
func (s *Server) answer(w http.ResponseWriter, r *http.Request, c call, p plan) error {
	if err := s.pass(r, p); err != nil {
		return err
	}
	if err := s.wait(r, p.delay); err != nil {
		return err
	}
	switch p.fail {
	case "", "empty", "filter", "refuse":
	case "hang":
		return s.wait(r, 24*time.Hour)
	case "reset":
		panic(http.ErrAbortHandler)
	case "cut":
		begin(w)
		c.api.open(w, c, p)
		c.api.piece(w, c, p, "partial ")
		_ = http.NewResponseController(w).Flush() // the cut follows either way
		panic(http.ErrAbortHandler)
	default:
		status, body := failure(p.fail)
		reply(w, status, body)
		return nil
	}
	if !c.Stream {
		c.api.whole(w, c, p)
		return nil
	}
	return s.stream(w, r, c, p)
}

func (s *Server) stream(w http.ResponseWriter, r *http.Request, c call, p plan) error {
	begin(w)
	flush := http.NewResponseController(w)
	c.api.open(w, c, p)
	runes := []rune(p.text)
	size := max(1, (len(runes)+p.chunks-1)/p.chunks)
	for len(runes) > 0 {
		n := min(size, len(runes))
		c.api.piece(w, c, p, string(runes[:n]))
		if err := flush.Flush(); err != nil {
			return errAbandoned
		}
		runes = runes[n:]
		if err := s.wait(r, p.pause); err != nil {
			return err
		}
	}
	c.api.end(w, c, p)
	if err := flush.Flush(); err != nil {
		return errAbandoned
	}
	return nil
}

// failure is the HTTP error of a mode: a status, quota or overflow.
func failure(mode string) (int, any) {
	switch mode {
	case "quota":
		return http.StatusTooManyRequests, errorBody("insufficient_quota", "You exceeded your current quota, please check your plan and billing details.", "insufficient_quota")
	case "overflow":
		return http.StatusBadRequest, errorBody("invalid_request_error", "This model's maximum context length is 128000 tokens. However, your messages resulted in 200000 tokens.", "context_length_exceeded")
	}
	status, err := strconv.Atoi(mode)
	if err != nil || status < 400 || status > 599 {
		status = http.StatusInternalServerError
	}
	return status, errorBody(errorType(status), fmt.Sprintf("fake provider failure %d", status), "")
}

// tokens counts four bytes as one. What was in the cache is part of input.
func tokens(c call, p plan) (input, output int) {
	return max((c.bytes+3)/4, p.cached), (len(p.text) + 3) / 4
}

func id(p plan) string { return fmt.Sprintf("fake-%d", p.number) }

func begin(w http.ResponseWriter) {
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-cache")
	w.WriteHeader(http.StatusOK)
}

// event writes one server-sent event, with its name where the API has one. A
// caller that left shows at the next flush.
func event(w io.Writer, name string, v any) {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err) // only plain structs get here
	}
	if name != "" {
		_, _ = fmt.Fprintf(w, "event: %s\n", name)
	}
	_, _ = fmt.Fprintf(w, "data: %s\n\n", b)
}

func reply(w http.ResponseWriter, status int, v any) {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err) // as above
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(b)
}

// errorBody suits all APIs: the type outside is Anthropic's.
func errorBody(kind, msg, code string) any {
	e := object{"message": msg, "type": kind}
	if code != "" {
		e["code"] = code
	}
	return object{"type": "error", "error": e}
}

type object = map[string]any

func errorType(status int) string {
	switch status {
	case http.StatusTooManyRequests:
		return "rate_limit_error"
	case http.StatusUnauthorized:
		return "authentication_error"
	case http.StatusPaymentRequired:
		return "billing_error"
	case http.StatusBadRequest:
		return "invalid_request_error"
	}
	if status < 500 {
		return "fake_error" // a class of its own that no gateway knows
	}
	return "server_error"
}

// counter counts the bytes read.
type counter struct {
	r io.Reader
	n int
}

func (c *counter) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += n
	return n, err
}
