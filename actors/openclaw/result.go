package openclaw

import (
	"encoding/json"
	"strings"
	"time"
)

// runResult is payload.result of a final agent answer. The 10 kB of
// systemPromptReport beside it are skipped, not decoded.
type runResult struct {
	text       string // of all parts: the model's words, which decide nothing
	isError    bool
	errParts   string // of the parts that the gateway marks as its own error
	stopReason string
	errText    string // meta.error.message
	errKind    string // meta.error.kind, often that of a failover reason
	usage      *Usage // nil: not told
	meta       RunMeta
	spawned    int
	silent     bool // the model said that it says nothing
}

// maxPayloads bounds the parts of one reply.
const maxPayloads = 256

func decodeResult(b []byte, depth int) (runResult, error) {
	var r runResult
	if !isObject(b) {
		return r, errNoPayload
	}
	it := object(b, depth)
	for it.next() {
		switch string(it.key) {
		case "payloads":
			if err := r.decodePayloads(it.val); err != nil {
				return r, err
			}
		case "meta":
			r.decodeMeta(it.val, depth-1)
		case "acceptedSessionSpawns":
			r.spawned = countOf(it.val)
		}
	}
	return r, it.err
}

// countOf is the length of a list, 0 for anything else.
func countOf(b []byte) int {
	var list []json.RawMessage
	if missing(b) || json.Unmarshal(b, &list) != nil {
		return 0
	}
	return len(list)
}

func (r *runResult) decodePayloads(b []byte) error {
	if missing(b) {
		return nil
	}
	var parts []struct {
		Text    *string `json:"text"`
		IsError bool    `json:"isError"`
	}
	if err := json.Unmarshal(b, &parts); err != nil {
		return err
	}
	texts := make([]string, 0, len(parts))
	var errs []string
	for _, p := range parts[:min(len(parts), maxPayloads)] {
		r.isError = r.isError || p.IsError
		if p.Text == nil {
			continue
		}
		texts = append(texts, *p.Text)
		if p.IsError {
			errs = append(errs, *p.Text)
		}
	}
	r.text, r.errParts = strings.Join(texts, "\n"), strings.Join(errs, "\n")
	return nil
}

// decodeMeta takes what it understands: meta never decides over success,
// except for a stop reason that says error.
func (r *runResult) decodeMeta(b []byte, depth int) {
	if !isObject(b) {
		return
	}
	it := object(b, depth)
	for it.next() {
		switch string(it.key) {
		case "durationMs":
			r.meta.Duration = millis(it.val, 30*24*time.Hour)
		case "stopReason":
			r.stopReason, _ = text(it.val)
		case "error":
			r.decodeError(it.val, depth-1)
		case "finalAssistantRawText":
			if len(it.val) <= maxShortText {
				raw, _ := text(it.val)
				r.silent = Silent(raw)
			}
		case "agentMeta":
			r.decodeAgentMeta(it.val, depth-1)
		}
	}
}

func (r *runResult) decodeError(b []byte, depth int) {
	if !isObject(b) {
		return
	}
	it := object(b, depth)
	for it.next() {
		switch string(it.key) {
		case "message":
			r.errText, _ = text(it.val)
		case "kind":
			r.errKind, _ = text(it.val)
		}
	}
}

func (r *runResult) decodeAgentMeta(b []byte, depth int) {
	if !isObject(b) {
		return
	}
	word := func(v []byte) string {
		s, _ := text(v)
		return clean(s, maxShortText)
	}
	it := object(b, depth)
	for it.next() {
		switch string(it.key) {
		case "sessionId":
			r.meta.SessionID = word(it.val)
		case "provider":
			r.meta.Provider = word(it.val)
		case "model":
			r.meta.Model = word(it.val)
		case "usage":
			r.usage = decodeUsage(it.val, depth-1)
		}
	}
}

// decodeUsage is nil if there is no usage, or none that can be read.
func decodeUsage(b []byte, depth int) *Usage {
	if !isObject(b) {
		return nil
	}
	u := &Usage{}
	told := false
	it := object(b, depth)
	for it.next() {
		n, ok := integer(it.val)
		if !ok || n < 0 {
			continue
		}
		known := true
		switch string(it.key) {
		case "input":
			u.Input = n
		case "output":
			u.Output = n
		case "cacheRead":
			u.CacheRead = n
		case "cacheWrite":
			u.CacheWrite = n
		case "total", "totalTokens":
			u.Total = n
		default:
			known = false
		}
		told = told || known
	}
	if it.err != nil || !told {
		return nil
	}
	return u
}
