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
}

var mark = regexp.MustCompile(`\[\[(delay|gate|fail|reply|chunks|chunkms)=([^\]]*)\]\]`)

const echoed = 4096

func newPlan(set Settings, r Request) plan {
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
	for _, m := range mark.FindAllStringSubmatch(r.Last, -1) {
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
		}
	}
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

func (s *Server) answer(w http.ResponseWriter, r *http.Request, c call, p plan) error {
	if err := s.pass(r, p); err != nil {
		return err
	}
	if err := s.wait(r, p.delay); err != nil {
		return err
	}
	switch p.fail {
	case "":
	case "hang":
		return s.wait(r, 24*time.Hour)
	case "reset":
		panic(http.ErrAbortHandler)
	case "cut":
		begin(w)
		put(w, c, p, delta{Role: "assistant", Content: "partial "}, nil)
		_ = http.NewResponseController(w).Flush() // the cut follows either way
		panic(http.ErrAbortHandler)
	default:
		status, err := strconv.Atoi(p.fail)
		if err != nil || status < 400 || status > 599 {
			status = http.StatusInternalServerError
		}
		reply(w, status, errorBody(errorType(status), fmt.Sprintf("fake provider failure %d", status)))
		return nil
	}
	if !c.Stream {
		stop := "stop"
		reply(w, http.StatusOK, completion{ID: id(p), Object: "chat.completion", Model: c.Model, Usage: usageOf(c, p),
			Choices: []choice{{Message: &delta{Role: "assistant", Content: p.text}, FinishReason: &stop}}})
		return nil
	}
	return s.stream(w, r, c, p)
}

func (s *Server) stream(w http.ResponseWriter, r *http.Request, c call, p plan) error {
	begin(w)
	flush := http.NewResponseController(w)
	put(w, c, p, delta{Role: "assistant"}, nil)
	runes := []rune(p.text)
	size := max(1, (len(runes)+p.chunks-1)/p.chunks)
	for len(runes) > 0 {
		n := min(size, len(runes))
		put(w, c, p, delta{Content: string(runes[:n])}, nil)
		if err := flush.Flush(); err != nil {
			return errAbandoned
		}
		runes = runes[n:]
		if err := s.wait(r, p.pause); err != nil {
			return err
		}
	}
	stop := "stop"
	put(w, c, p, delta{}, &stop)
	event(w, completion{ID: id(p), Object: "chat.completion.chunk", Model: c.Model, Choices: []choice{}, Usage: usageOf(c, p)})
	if _, err := io.WriteString(w, "data: [DONE]\n\n"); err != nil {
		return errAbandoned
	}
	return nil
}

type completion struct {
	ID      string   `json:"id"`
	Object  string   `json:"object"`
	Created int64    `json:"created"`
	Model   string   `json:"model"`
	Choices []choice `json:"choices"`
	Usage   *usage   `json:"usage,omitempty"`
}

type choice struct {
	Index        int     `json:"index"`
	Message      *delta  `json:"message,omitempty"`
	Delta        *delta  `json:"delta,omitempty"`
	FinishReason *string `json:"finish_reason"`
}

type delta struct {
	Role    string `json:"role,omitempty"`
	Content string `json:"content"`
}

type usage struct {
	Prompt     int `json:"prompt_tokens"`
	Completion int `json:"completion_tokens"`
	Total      int `json:"total_tokens"`
}

// usageOf counts four bytes as a token.
func usageOf(c call, p plan) *usage {
	u := &usage{Prompt: (c.bytes + 3) / 4, Completion: (len(p.text) + 3) / 4}
	u.Total = u.Prompt + u.Completion
	return u
}

func id(p plan) string { return fmt.Sprintf("chatcmpl-fake-%d", p.number) }

func begin(w http.ResponseWriter) {
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-cache")
	w.WriteHeader(http.StatusOK)
}

func put(w io.Writer, c call, p plan, d delta, finish *string) {
	event(w, completion{ID: id(p), Object: "chat.completion.chunk", Created: time.Now().Unix(), Model: c.Model,
		Choices: []choice{{Delta: &d, FinishReason: finish}}})
}

// event writes one server-sent event. A caller that left shows at the next
// flush.
func event(w io.Writer, v any) {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err) // only plain structs get here
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

func errorBody(kind, msg string) any {
	return map[string]any{"error": map[string]any{"message": msg, "type": kind}}
}

func errorType(status int) string {
	switch status {
	case http.StatusTooManyRequests:
		return "rate_limit_error"
	case http.StatusUnauthorized:
		return "authentication_error"
	case http.StatusBadRequest:
		return "invalid_request_error"
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
