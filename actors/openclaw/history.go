package openclaw

import (
	"encoding/json"
	"strings"
)

// messageText joins the text parts of a transcript message. content is a
// string, or a list of parts of which those with text count.
func messageText(b []byte, depth int) (string, bool) {
	if !isObject(b) {
		return "", false
	}
	it := object(b, depth)
	for it.next() {
		if string(it.key) == "content" {
			return contentText(it.val)
		}
	}
	return "", false
}

func contentText(b []byte) (string, bool) {
	if s, ok := text(b); ok {
		return s, true
	}
	var parts []struct {
		Text string `json:"text"`
	}
	if json.Unmarshal(b, &parts) != nil {
		return "", false
	}
	var s strings.Builder
	for _, p := range parts {
		s.WriteString(p.Text)
	}
	return s.String(), true
}
