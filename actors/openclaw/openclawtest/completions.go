package openclawtest

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"

	"github.com/google/uuid"
)

type completionRequest struct {
	Model    string              `json:"model"`
	Messages []completionMessage `json:"messages"`
	Stream   bool                `json:"stream"`
	User     string              `json:"user"`
}

type completionMessage struct {
	Role    string          `json:"role"`
	Content json.RawMessage `json:"content"`
}

func (m completionMessage) text() string {
	var s string
	if stringInto(m.Content, &s) {
		return s
	}
	var parts []textPart
	if json.Unmarshal(m.Content, &parts) != nil {
		return ""
	}
	var b strings.Builder
	for _, p := range parts {
		b.WriteString(p.Text)
	}
	return b.String()
}

// completions is POST /v1/chat/completions: one turn without a run id.
func (g *Gateway) completions(l *life, w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", "POST")
		http.Error(w, "Method Not Allowed", http.StatusMethodNotAllowed)
		return
	}
	if !g.authorized(w, r) {
		return
	}
	var req completionRequest
	if err := decodeBody(w, r, 20<<20, &req, false); err != nil {
		apiError(w, http.StatusBadRequest, "Invalid request body: "+err.Error(), "invalid_request_error")
		return
	}
	if req.Model != "openclaw" && !strings.HasPrefix(req.Model, "openclaw/") {
		apiError(w, http.StatusBadRequest, "Invalid `model`. Use `openclaw` or `openclaw/<agentId>`.", "invalid_request_error")
		return
	}
	message := replayed(req.Messages)
	if message == "" {
		apiError(w, http.StatusBadRequest, "Missing user message in `messages`.", "invalid_request_error")
		return
	}
	run, done := g.completionRun(l, r, req, message)
	if run == nil {
		writeJSON(w, http.StatusServiceUnavailable, map[string]any{"error": map[string]any{"message": "gateway unavailable", "type": "service_unavailable", "code": "gateway_unavailable"}})
		return
	}
	select {
	case <-done:
	case <-l.over:
		panic(http.ErrAbortHandler)
	case <-r.Context().Done():
		g.mu.Lock()
		defer g.mu.Unlock()
		if !l.dead {
			g.finish(l, run, aborted())
		}
		return
	}
	g.mu.Lock()
	out, use := run.out, run.usage()
	g.mu.Unlock()
	g.writeCompletion(w, req, out, use)
}

func (g *Gateway) completionRun(l *life, r *http.Request, req completionRequest, message string) (*run, <-chan struct{}) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if l.dead || !l.ready || l.drain != nil || l.suspend.phase != phaseAccepting || l.open >= maxQueuedRuns {
		return nil, nil
	}
	key := r.Header.Get("x-openclaw-session-key")
	switch {
	case key != "" && len(key) <= maxSessionKey:
		key = expandKey(key)
	case req.User != "":
		key = "agent:main:openai-user:" + headOf(req.User, 128)
	default:
		key = "agent:main:openai:" + uuid.NewString()
	}
	run := g.accept(l, submission{id: "chatcmpl_" + uuid.NewString(), key: key, message: message, via: viaHTTP})
	run.notify = make(chan struct{})
	g.place(l, run)
	return run, run.notify
}

// replayed turns a conversation into one user text, as a real gateway does.
func replayed(messages []completionMessage) string {
	last := -1
	for i, m := range messages {
		if m.Role == "user" {
			last = i
		}
	}
	if last < 0 {
		return ""
	}
	var before strings.Builder
	for _, m := range messages[:last] {
		switch m.Role {
		case "user":
			fmt.Fprintf(&before, "User: %s\n", m.text())
		case "assistant":
			fmt.Fprintf(&before, "Assistant: %s\n", m.text())
		}
	}
	if before.Len() == 0 {
		return messages[last].text()
	}
	return "[Chat messages since your last reply - for context]\n" + before.String() + "\n[Current message - respond to this]\nUser: " + messages[last].text()
}

func (g *Gateway) writeCompletion(w http.ResponseWriter, req completionRequest, out outcome, use *usage) {
	if out.kind != kindOK {
		message := out.text
		if out.fail != nil {
			message = out.fail.message
		}
		apiError(w, http.StatusInternalServerError, cmpOr(message, "aborted"), "api_error")
		return
	}
	id, created := "chatcmpl_"+uuid.NewString(), nowMs()/1000
	if use == nil {
		use = &usage{}
	}
	counts := map[string]int{"prompt_tokens": use.Input, "completion_tokens": use.Output, "total_tokens": use.Total}
	if !req.Stream {
		writeJSON(w, http.StatusOK, map[string]any{"id": id, "object": "chat.completion", "created": created, "model": req.Model, "usage": counts,
			"choices": []any{map[string]any{"index": 0, "finish_reason": "stop", "message": map[string]any{"role": "assistant", "content": out.text}}}})
		return
	}
	w.Header().Set("Content-Type", "text/event-stream; charset=utf-8")
	chunk := func(delta map[string]any, finish any) string {
		return "data: " + string(encode(map[string]any{"id": id, "object": "chat.completion.chunk", "created": created, "model": req.Model,
			"choices": []any{map[string]any{"index": 0, "delta": delta, "finish_reason": finish}}})) + "\n\n"
	}
	body := chunk(map[string]any{"role": "assistant"}, nil) + chunk(map[string]any{"content": out.text}, nil) + chunk(map[string]any{}, "stop") + "data: [DONE]\n\n"
	if _, err := w.Write([]byte(body)); err != nil {
		return // the client has gone; there is nobody to tell
	}
}

func headOf(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return strings.ToValidUTF8(s[:n], "")
}
