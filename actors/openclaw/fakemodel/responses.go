package fakemodel

import (
	"io"
	"net/http"
)

// responses is OpenAI's responses API.
type responses struct{}

func (responses) body(c call, p plan) object {
	in, out := tokens(c, p)
	status, details := "completed", object(nil)
	if p.finish != finishStop {
		status, details = "incomplete", object{"reason": finishFilter}
	}
	return object{"id": id(p), "object": "response", "model": c.Model, "status": status, "incomplete_details": details,
		"output": []any{object{"type": "message", "id": "msg-" + id(p), "role": "assistant", "status": "completed", "content": []any{textPart(p.text)}}},
		"usage": object{"input_tokens": in, "input_tokens_details": object{"cached_tokens": p.cached}, "output_tokens": out,
			"output_tokens_details": object{"reasoning_tokens": 0}, "total_tokens": in + out}}
}

func textPart(s string) object {
	return object{"type": "output_text", "text": s, "annotations": []any{}}
}

func (r responses) open(w io.Writer, c call, p plan) {
	event(w, "response.created", object{"type": "response.created", "response": object{"id": id(p), "object": "response", "model": c.Model, "status": "in_progress", "output": []any{}}})
	event(w, "response.output_item.added", object{"type": "response.output_item.added", "output_index": 0,
		"item": object{"type": "message", "id": "msg-" + id(p), "role": "assistant", "status": "in_progress", "content": []any{}}})
	event(w, "response.content_part.added", object{"type": "response.content_part.added", "output_index": 0, "content_index": 0, "item_id": "msg-" + id(p), "part": textPart("")})
}

func (responses) piece(w io.Writer, _ call, p plan, text string) {
	event(w, "response.output_text.delta", object{"type": "response.output_text.delta", "output_index": 0, "content_index": 0, "item_id": "msg-" + id(p), "delta": text})
}

func (r responses) end(w io.Writer, c call, p plan) {
	body := r.body(c, p)
	event(w, "response.output_text.done", object{"type": "response.output_text.done", "output_index": 0, "content_index": 0, "item_id": "msg-" + id(p), "text": p.text})
	event(w, "response.output_item.done", object{"type": "response.output_item.done", "output_index": 0, "item": body["output"].([]any)[0]})
	name := "response." + body["status"].(string)
	event(w, name, object{"type": name, "response": body})
}

func (r responses) whole(w http.ResponseWriter, c call, p plan) {
	reply(w, http.StatusOK, r.body(c, p))
}
