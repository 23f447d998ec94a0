package fakemodel

import (
	"io"
	"net/http"
)

// anthropic is Anthropic's messages API. Its input tokens leave out those that
// were in the cache.
type anthropic struct{}

func (anthropic) usage(c call, p plan) object {
	in, out := tokens(c, p)
	return object{"input_tokens": in - p.cached, "cache_read_input_tokens": p.cached, "cache_creation_input_tokens": 0, "output_tokens": out}
}

func (a anthropic) open(w io.Writer, c call, p plan) {
	event(w, "message_start", object{"type": "message_start", "message": object{"id": id(p), "type": "message", "role": "assistant",
		"model": c.Model, "content": []any{}, "stop_reason": nil, "usage": a.usage(c, p)}})
	event(w, "content_block_start", object{"type": "content_block_start", "index": 0, "content_block": object{"type": "text", "text": ""}})
}

func (anthropic) piece(w io.Writer, _ call, _ plan, text string) {
	event(w, "content_block_delta", object{"type": "content_block_delta", "index": 0, "delta": object{"type": "text_delta", "text": text}})
}

func (a anthropic) end(w io.Writer, c call, p plan) {
	_, out := tokens(c, p)
	event(w, "content_block_stop", object{"type": "content_block_stop", "index": 0})
	event(w, "message_delta", object{"type": "message_delta", "delta": object{"stop_reason": a.stop(p), "stop_sequence": nil}, "usage": object{"output_tokens": out}})
	event(w, "message_stop", object{"type": "message_stop"})
}

func (anthropic) stop(p plan) string {
	if p.finish == finishStop {
		return "end_turn"
	}
	return finishRefusal
}

func (a anthropic) whole(w http.ResponseWriter, c call, p plan) {
	reply(w, http.StatusOK, object{"id": id(p), "type": "message", "role": "assistant", "model": c.Model, "stop_reason": a.stop(p),
		"content": []any{object{"type": "text", "text": p.text}}, "usage": a.usage(c, p)})
}
