package openclaw

import (
	"errors"
	"time"
)

// runResult is payload.result of a final agent answer. The 10 kB of
// systemPromptReport beside it are skipped, not decoded.
type runResult struct {
	text       string // of all parts: the model's words, which decide nothing
	cutFrom    int    // its length, if it was cut
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
const maxPayloads = 4096

// decodeResult keeps at most maxText bytes of the reply.
func decodeResult(b []byte, depth, maxText int) (runResult, error) {
	var r runResult
	if !isObject(b) {
		return r, errNoPayload
	}
	it := object(b, depth)
	for it.next() {
		switch string(it.key) {
		case "payloads":
			if err := r.decodePayloads(it.val, depth-1, maxText); err != nil {
				return r, err
			}
		case "meta":
			r.decodeMeta(it.val, depth-1)
		case "acceptedSessionSpawns":
			r.spawned = countOf(it.val, depth-1)
		}
	}
	return r, it.err
}

// countOf is the length of a list, 0 for anything else. It does not count beyond
// what a gateway is asked for later.
func countOf(b []byte, depth int) int {
	n := 0
	it := list(b, depth)
	for n < maxSubAgents && it.next() {
		n++
	}
	if it.err != nil {
		return 0
	}
	return n
}

func (r *runResult) decodePayloads(b []byte, depth, maxText int) error {
	if missing(b) {
		return nil
	}
	texts, errs := keeper{limit: maxText}, keeper{limit: maxWord}
	first := true
	err := each(b, depth, maxPayloads, "parts of a reply", func(v []byte) error {
		p, err := decodePart(v, depth-1)
		if err != nil {
			return err
		}
		r.isError = r.isError || p.isError
		if p.text == nil {
			return nil
		}
		if !first {
			texts.rune('\n')
		}
		first = false
		if p.isError {
			if errs.whole > 0 {
				errs.rune('\n')
			}
			errs.add(p.text)
		}
		if !texts.add(p.text) {
			return errNotText
		}
		return nil
	})
	r.text, r.cutFrom = texts.text()
	r.errParts, _ = errs.text()
	return err
}

var errNotText = errors.New("a text is none")

// part is one of a reply or of a message; text is not decoded yet.
type part struct {
	text    []byte
	isError bool
}

func decodePart(b []byte, depth int) (part, error) {
	var p part
	if missing(b) {
		return p, nil
	}
	it := object(b, depth)
	for it.next() {
		switch string(it.key) {
		case "text":
			if p.text = it.val; missing(it.val) {
				p.text = nil
			}
		case "isError":
			p.isError, _ = boolean(it.val)
		}
	}
	return p, it.err
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
