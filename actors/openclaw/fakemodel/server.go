// Package fakemodel is a model provider for tests: deterministic, without a
// model, with the APIs chat completions, responses and messages. The reply to a prompt is
// "ECHO(<n>): <last user text>", where n counts the user messages of the
// request, so a test sees at once which history was sent.
//
// Marks in the last user text steer one call:
//
//	[[delay=1500]]   milliseconds before the first byte
//	[[gate=name]]    no byte before Open(name)
//	[[reply=text]]   this reply
//	[[chunks=8]]     pieces a streamed reply is cut into
//	[[chunkms=100]]  pause between pieces
//	[[spawn=task]]   a sub-agent is started for the task, then the reply follows
//	                 (chat completions only); in its text, {{ and }} stand for [[ and ]]
//	[[cached=200]]   input tokens that come out of the provider's cache
//	[[fail=MODE]]    an HTTP status, or hang, cut, reset, quota, overflow
//	                 (400, context too long), empty, filter, refuse
//
// Settings do the same for all calls. Every request is kept (the last 10,000)
// for tests that prove an order. The server owns the goroutines of net/http;
// Close ends them all.
package fakemodel

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
)

const (
	maxRequests = 10_000
	maxBody     = 64 << 20
)

// Settings apply to every call without a mark of its own.
type Settings struct {
	DelayMS int    `json:"delay_ms"` // before the first byte
	Chunks  int    `json:"chunks"`   // 0: 4
	ChunkMS int    `json:"chunk_ms"`
	Fail    string `json:"fail"` // as the mark; empty: none
	// FailNext limits Fail to so many calls; 0: all.
	FailNext int    `json:"fail_next"`
	Reply    string `json:"reply"`
}

// Request is what one model call asked.
type Request struct {
	At    time.Time `json:"at"`
	Model string    `json:"model"`
	Users int       `json:"users"` // user messages, the gateway's own context left out
	Last  string    `json:"last"`  // the last of them, the marks included
	Auth  string    `json:"-"`
}

// Stats count calls.
type Stats struct {
	Requests  int `json:"requests"`
	Active    int `json:"active"`
	MaxActive int `json:"max_active"`
	Failed    int `json:"failed"`
	Abandoned int `json:"abandoned"` // the caller hung up first
}

// Server is a running fake model.
type Server struct {
	http *http.Server
	addr string
	done chan struct{}
	quit chan struct{}

	mu       sync.Mutex
	set      Settings
	requests []Request
	stats    Stats
	gates    map[string]chan struct{}
}

// Start listens on addr (empty: a free loopback port) and serves.
func Start(ctx context.Context, addr string) (*Server, error) {
	if addr == "" {
		addr = "127.0.0.1:0"
	}
	ln, err := (&net.ListenConfig{}).Listen(ctx, "tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("fake model: %w", err)
	}
	s := &Server{addr: ln.Addr().String(), done: make(chan struct{}), quit: make(chan struct{}), gates: map[string]chan struct{}{}}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/chat/completions", s.serve(completions{}))
	mux.HandleFunc("POST /v1/messages", s.serve(anthropic{}))
	mux.HandleFunc("POST /v1/responses", s.serve(responses{}))
	mux.HandleFunc("GET /v1/models", func(w http.ResponseWriter, _ *http.Request) {
		reply(w, http.StatusOK, map[string]any{"object": "list", "data": []any{map[string]any{"id": Model, "object": "model", "owned_by": "fake"}}})
	})
	mux.HandleFunc("POST /__control", s.control)
	mux.HandleFunc("GET /__stats", func(w http.ResponseWriter, _ *http.Request) { reply(w, http.StatusOK, s.Stats()) })
	mux.HandleFunc("GET /__requests", func(w http.ResponseWriter, _ *http.Request) { reply(w, http.StatusOK, s.Requests()) })
	s.http = &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	go func() {
		defer close(s.done)
		_ = s.http.Serve(ln) // ends by Close only
	}()
	return s, nil
}

// Model is the id of the only model.
const Model = "fake-1"

// URL is the provider base URL, with /v1.
func (s *Server) URL() string { return "http://" + s.addr + "/v1" }

// Close cuts every call and waits for the server to end.
func (s *Server) Close() {
	close(s.quit)
	_ = s.http.Close() // closing listeners on loopback has nothing to say
	<-s.done
}

// Set replaces the settings.
func (s *Server) Set(v Settings) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.set = v
}

// Open lets the calls at a gate go on, present and future ones. Opening twice
// is fine.
func (s *Server) Open(gate string) {
	ch := s.gate(gate)
	s.mu.Lock()
	defer s.mu.Unlock()
	select {
	case <-ch:
	default:
		close(ch)
	}
}

func (s *Server) gate(name string) chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.gates[name] == nil {
		s.gates[name] = make(chan struct{})
	}
	return s.gates[name]
}

// Stats are the counts so far.
func (s *Server) Stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stats
}

// Requests are the calls so far, oldest first.
func (s *Server) Requests() []Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]Request(nil), s.requests...)
}

func (s *Server) control(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	set := s.set
	s.mu.Unlock()
	d := json.NewDecoder(http.MaxBytesReader(w, r.Body, 1<<20))
	d.DisallowUnknownFields()
	if err := d.Decode(&set); err != nil {
		reply(w, http.StatusBadRequest, errorBody("invalid_request_error", "settings: "+err.Error(), ""))
		return
	}
	s.Set(set)
	reply(w, http.StatusOK, set)
}

type message struct {
	Role    string          `json:"role"`
	Content json.RawMessage `json:"content"`
}

func (m message) text() string {
	var s string
	if json.Unmarshal(m.Content, &s) == nil {
		return s
	}
	var parts []struct {
		Text string `json:"text"`
	}
	if json.Unmarshal(m.Content, &parts) != nil {
		return ""
	}
	var b strings.Builder
	for _, p := range parts {
		b.WriteString(p.Text)
	}
	return b.String()
}

type call struct {
	Model    string    `json:"model"`
	Stream   bool      `json:"stream"`
	Messages []message `json:"messages"`
	Input    []message `json:"input"` // the responses API's messages
	Tools    []struct {
		Function struct {
			Name string `json:"name"`
		} `json:"function"`
	} `json:"tools"`
	bytes int
	api   api
}

// internalContext opens a message that a gateway appends to the conversation;
// nobody said it.
const internalContext = "<<<BEGIN_"

// askedAgain is in the text by which a gateway asks once more after an empty
// answer. Its marks are those of the text before it.
const askedAgain = "The previous attempt did not produce"

// toolsAnswered reports whether the last user text was followed by the result of
// a tool.
func (c call) toolsAnswered() bool {
	for _, m := range slices.Backward(c.Messages) {
		switch {
		case m.Role == "tool":
			return true
		case m.Role == "user" && !strings.HasPrefix(strings.TrimSpace(m.text()), internalContext):
			return false
		}
	}
	return false
}

// offers reports whether the model may call a tool by its own name.
func (c call) offers(tool string) bool {
	for _, t := range c.Tools {
		if t.Function.Name == tool {
			return true
		}
	}
	return false
}

// said lists the texts of the user messages.
func (c call) said() []string {
	var out []string
	for _, m := range append(c.Messages, c.Input...) {
		if m.Role != "user" {
			continue
		}
		if t := m.text(); !strings.HasPrefix(strings.TrimSpace(t), internalContext) {
			out = append(out, t)
		}
	}
	return out
}

// serve answers calls of one API.
func (s *Server) serve(a api) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) { s.called(w, r, a) }
}

func (s *Server) called(w http.ResponseWriter, r *http.Request, a api) {
	body := http.MaxBytesReader(w, r.Body, maxBody)
	c := call{api: a}
	counting := &counter{r: body}
	if bad := json.NewDecoder(counting).Decode(&c); bad != nil {
		reply(w, http.StatusBadRequest, errorBody("invalid_request_error", "body: "+bad.Error(), ""))
		return
	}
	c.bytes = counting.n
	said := c.said()
	last := ""
	if len(said) > 0 {
		last = said[len(said)-1]
	}
	marked := last
	if c.toolsAnswered() {
		marked = spawnMark.ReplaceAllString(marked, "")
	}
	for i := len(said) - 1; i > 0 && strings.Contains(said[i], askedAgain); i-- {
		marked = said[i-1]
	}
	p := s.begin(Request{At: time.Now(), Model: c.Model, Users: len(said), Last: last, Auth: r.Header.Get("Authorization")}, marked)
	err := errAbandoned // what stays when answer cuts the connection by a panic
	defer func() { s.end(p.fail != "", err) }()
	err = s.answer(w, r, c, p)
}

var errAbandoned = errors.New("the caller hung up")

// begin records a call and plans its answer.
func (s *Server) begin(r Request, marked string) plan {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stats.Requests++
	s.stats.Active++
	s.stats.MaxActive = max(s.stats.MaxActive, s.stats.Active)
	if len(s.requests) == maxRequests {
		s.requests = append(s.requests[:0], s.requests[1:]...)
	}
	s.requests = append(s.requests, r)
	p := newPlan(s.set, r, marked)
	if s.set.FailNext > 0 && p.fail != "" && p.fail == s.set.Fail {
		if s.set.FailNext--; s.set.FailNext == 0 {
			s.set.Fail = ""
		}
	}
	p.number = s.stats.Requests
	return p
}

func (s *Server) end(failed bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stats.Active--
	if failed {
		s.stats.Failed++
	}
	if err != nil {
		s.stats.Abandoned++
	}
}
