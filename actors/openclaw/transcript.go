package openclaw

import (
	"errors"
	"slices"
	"strings"
)

// Marks behind the run id in a message's idempotency key.
const (
	userMark   = ":user"
	failedMark = ":terminal-error"
)

const (
	maxHistoryTexts = 2    // of the longest reply: what all texts of a history may take
	maxParts        = 4096 // of one message
)

// decodeHistory fails rather than leave an item out: an answer that is
// overlooked would be run again. Of more text than may be kept, the oldest is
// cut and marked.
func decodeHistory(b []byte, depth, limit, maxText int) (History, error) {
	var h History
	if !isObject(b) {
		return h, errNoObject
	}
	var contents [][]byte
	var err error
	there := false
	it := object(b, depth)
	for err == nil && it.next() {
		switch string(it.key) {
		case "sessionId":
			s, _ := text(it.val)
			h.SessionID = clean(s, maxShortText)
		case "hasMore":
			h.HasMore, _ = boolean(it.val)
		case "messages":
			if there = !missing(it.val); !there {
				continue
			}
			h.Items, contents = nil, nil
			err = each(it.val, depth-1, limit, "messages", func(v []byte) error {
				item, content, err := decodeItem(v, depth-2)
				h.Items, contents = append(h.Items, item), append(contents, content)
				return err
			})
		case "pendingInputs":
			h.Pending, err = decodePending(it.val, depth-1)
		case "inFlightRun":
			h.InFlight, err = decodeInFlight(it.val, depth-1)
		case "sessionInfo":
			h.Active, err = hasActiveRun(it.val, depth-1)
		}
	}
	switch {
	case err != nil:
		return History{}, err
	case it.err != nil:
		return History{}, it.err
	case !there:
		return History{}, errors.New("no messages member")
	}
	h.Active = h.Active || h.InFlight != nil
	return h, h.readTexts(contents, depth-3, maxText)
}

// readTexts decodes what is said, the newest first.
func (h *History) readTexts(contents [][]byte, depth, maxText int) error {
	left := maxHistoryTexts * maxText
	for i := range slices.Backward(h.Items) {
		item := &h.Items[i]
		limit := maxWord
		if item.Role == "assistant" {
			limit = maxText
		}
		k := keeper{limit: min(limit, left)}
		if err := k.content(contents[i], depth); err != nil {
			return err
		}
		item.Text, item.CutFrom = k.text()
		left -= len(item.Text)
	}
	return nil
}

// decodeItem reads one message but for its content.
func decodeItem(b []byte, depth int) (item HistoryItem, content []byte, err error) {
	if !isObject(b) {
		return item, nil, errors.New("a message is no object")
	}
	word := func(v []byte) string {
		s, ok := text(v)
		if !ok && !missing(v) {
			err = errNotText
		}
		return s
	}
	key := ""
	it := object(b, depth)
	for it.next() {
		switch string(it.key) {
		case "role":
			item.Role = clean(word(it.val), 32)
		case "content":
			content = it.val
		case "idempotencyKey":
			key = word(it.val)
		case "stopReason":
			item.StopReason = clean(word(it.val), 32)
		case "customType":
			item.CustomType = clean(word(it.val), 64)
		case "timestamp":
			item.At = unixMillis(it.val)
		case "__openclaw":
			item.By = runOf(it.val, depth-1)
		}
	}
	if item.Role != "assistant" {
		item.By = ""
	}
	if run, marked := strings.CutSuffix(key, userMark); marked && item.Role == "user" && len(run) <= maxRunID {
		item.RunID = strings.Clone(run)
	}
	item.failed = strings.HasSuffix(key, failedMark)
	if it.err != nil {
		err = it.err
	}
	return item, content, err
}

// runOf is the run that an object names, if it could be one.
func runOf(b []byte, depth int) string {
	if !isObject(b) {
		return ""
	}
	run := ""
	it := object(b, depth)
	for it.next() {
		if string(it.key) == "runId" {
			run, _ = text(it.val)
		}
	}
	if it.err != nil || len(run) > maxRunID {
		return ""
	}
	return run
}

func decodePending(b []byte, depth int) ([]PendingInput, error) {
	if missing(b) {
		return nil, nil
	}
	var out []PendingInput
	it := object(b, depth)
	for it.next() {
		if string(it.key) != "items" || missing(it.val) {
			continue
		}
		err := each(it.val, depth-1, maxHistory, "pending inputs", func(v []byte) error {
			var p PendingInput
			row := object(v, depth-2)
			for row.next() {
				switch string(row.key) {
				case "runId":
					if p.RunID, _ = text(row.val); len(p.RunID) > maxRunID {
						p.RunID = ""
					}
				case "state":
					s, _ := text(row.val)
					p.State = clean(s, 32)
				}
			}
			out = append(out, p)
			return row.err
		})
		if err != nil {
			return nil, err
		}
	}
	return out, it.err
}

func decodeInFlight(b []byte, depth int) (*InFlight, error) {
	if missing(b) {
		return nil, nil
	}
	f := &InFlight{}
	it := object(b, depth)
	for it.next() {
		switch string(it.key) {
		case "runId":
			f.RunID, _ = text(it.val)
		case "text":
			f.Text, _ = text(it.val)
		}
	}
	if it.err != nil || f.RunID == "" || len(f.RunID) > maxRunID {
		return nil, it.err
	}
	return f, nil
}

func hasActiveRun(b []byte, depth int) (active bool, err error) {
	if missing(b) {
		return false, nil
	}
	it := object(b, depth)
	for it.next() {
		if string(it.key) == "hasActiveRun" {
			active, _ = boolean(it.val)
		}
	}
	return active, it.err
}

// messageText is what a transcript message says.
func messageText(b []byte, depth, limit int) (string, int) {
	if !isObject(b) {
		return "", 0
	}
	k := keeper{limit: limit}
	it := object(b, depth)
	for it.next() {
		if string(it.key) == "content" {
			if k.content(it.val, depth-1) != nil {
				return "", 0
			}
			break
		}
	}
	return k.text()
}

// content adds a message's content: a text, or parts of which those with text
// count. Anything else says nothing.
func (k *keeper) content(b []byte, depth int) error {
	if len(b) == 0 || b[0] != '[' {
		k.add(b)
		return nil
	}
	return each(b, depth, maxParts, "parts of a message", func(v []byte) error {
		if !isObject(v) {
			return nil
		}
		p, err := decodePart(v, depth-1)
		if p.text != nil {
			k.add(p.text)
		}
		return err
	})
}
