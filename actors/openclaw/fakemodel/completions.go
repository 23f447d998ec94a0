package fakemodel

import (
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"time"
)

// api writes the answer to a call in the form of one provider API.
type api interface {
	open(w io.Writer, c call, p plan)
	piece(w io.Writer, c call, p plan, text string)
	end(w io.Writer, c call, p plan)
	whole(w http.ResponseWriter, c call, p plan) // not streamed
}

// completions is OpenAI's chat completions.
type completions struct{}

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
	Role      string     `json:"role,omitempty"`
	Content   string     `json:"content"`
	ToolCalls []toolCall `json:"tool_calls,omitempty"`
}

type toolCall struct {
	Index    int      `json:"index"`
	ID       string   `json:"id"`
	Type     string   `json:"type"`
	Function function `json:"function"`
}

type function struct {
	Name      string `json:"name"`
	Arguments string `json:"arguments"`
}

type usage struct {
	Prompt     int           `json:"prompt_tokens"`
	Completion int           `json:"completion_tokens"`
	Total      int           `json:"total_tokens"`
	Details    promptDetails `json:"prompt_tokens_details"`
}

type promptDetails struct {
	Cached int `json:"cached_tokens"`
}

func (completions) usage(c call, p plan) *usage {
	in, out := tokens(c, p)
	return &usage{Prompt: in, Completion: out, Total: in + out, Details: promptDetails{p.cached}}
}

func (completions) put(w io.Writer, c call, p plan, d delta, finish *string) {
	event(w, "", completion{ID: id(p), Object: "chat.completion.chunk", Created: time.Now().Unix(), Model: c.Model,
		Choices: []choice{{Delta: &d, FinishReason: finish}}})
}

func (a completions) open(w io.Writer, c call, p plan) { a.put(w, c, p, delta{Role: "assistant"}, nil) }

func (a completions) piece(w io.Writer, c call, p plan, text string) {
	a.put(w, c, p, delta{Content: text}, nil)
}

func (a completions) end(w io.Writer, c call, p plan) {
	if p.spawn != "" {
		task := strings.NewReplacer("{{", "[[", "}}", "]]").Replace(p.spawn)
		name, given := "sessions_spawn", object{"task": task}
		if !c.offers(name) { // 2026.9 keeps most of its tools behind this one
			name, given = "tool_call", object{"id": name, "args": given}
		}
		args, err := json.Marshal(given)
		if err != nil {
			panic(err) // plain text
		}
		a.put(w, c, p, delta{ToolCalls: []toolCall{{ID: "call-" + id(p), Type: "function", Function: function{name, string(args)}}}}, nil)
		p.finish = "tool_calls"
	}
	a.put(w, c, p, delta{}, &p.finish)
	event(w, "", completion{ID: id(p), Object: "chat.completion.chunk", Model: c.Model, Choices: []choice{}, Usage: a.usage(c, p)})
	_, _ = io.WriteString(w, "data: [DONE]\n\n") // a caller that left shows at the flush
}

func (a completions) whole(w http.ResponseWriter, c call, p plan) {
	reply(w, http.StatusOK, completion{ID: id(p), Object: "chat.completion", Model: c.Model, Usage: a.usage(c, p),
		Choices: []choice{{Message: &delta{Role: "assistant", Content: p.text}, FinishReason: &p.finish}}})
}
