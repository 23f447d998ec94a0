package openclaw

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
)

// frame is one incoming frame. payload and err alias the read buffer.
type frame struct {
	kind    frameKind
	id      string
	event   string
	ok      bool
	payload []byte
	err     []byte
	seq     int64
}

type frameKind uint8

const (
	frameOther frameKind = iota
	frameResponse
	frameEvent
)

// decodeFrame reads the envelope. It never fails for members it does not know.
func decodeFrame(b []byte, depth int) (frame, error) {
	var f frame
	it := object(b, depth)
	for it.next() {
		switch string(it.key) {
		case "type":
			switch string(it.val) {
			case `"res"`:
				f.kind = frameResponse
			case `"event"`:
				f.kind = frameEvent
			default:
				f.kind = frameOther
			}
		case "id":
			f.id, _ = text(it.val)
		case "event":
			f.event, _ = text(it.val)
		case "ok":
			f.ok, _ = boolean(it.val)
		case "payload":
			f.payload = it.val
		case "error":
			f.err = it.val
		case "seq":
			f.seq, _ = integer(it.val)
		}
	}
	return f, it.err
}

// requestID parses the id of an answer; ids are decimal numbers from 1.
func requestID(s string) (uint64, bool) {
	if len(s) == 0 || len(s) > 19 || s[0] < '1' || s[0] > '9' {
		return 0, false
	}
	n, err := strconv.ParseUint(s, 10, 64)
	return n, err == nil
}

// appendRequest builds a request frame around encoded params. An empty trace is none.
func appendRequest(id uint64, method, trace string, params []byte) []byte {
	b := make([]byte, 0, len(params)+len(method)+frameRoom)
	b = append(b, `{"type":"req","id":"`...)
	b = strconv.AppendUint(b, id, 10)
	b = append(b, `","method":"`...)
	b = append(b, method...)
	if trace != "" {
		b = append(b, `","traceparent":"`...)
		b = append(b, trace...)
	}
	b = append(b, `","params":`...)
	b = append(b, params...)
	return append(b, '}')
}

// frameRoom is what a request frame takes beside its method and params.
const frameRoom = 160

// traceParent names a run to whoever watches the calls that it makes: the trace
// is the task, the span its claim. Every model call of the run carries that trace.
// A run id of another form has none.
func traceParent(runID string) string {
	task, claim, is := strings.Cut(runID, ".")
	id, err := uuid.Parse(task)
	n, nerr := strconv.ParseUint(claim, 10, 64)
	if !is || err != nil || nerr != nil || n == 0 || id == uuid.Nil {
		return ""
	}
	return fmt.Sprintf("00-%x-%016x-01", id[:], n)
}

// maxRetryAfter bounds what a gateway may ask us to wait.
const maxRetryAfter = 10 * time.Minute

// decodeError reads an error envelope; a missing or odd one still yields an
// error that says so.
func decodeError(method string, b []byte, depth int, c cleaner) *RPCError {
	e := &RPCError{Method: method}
	it := object(b, depth)
	for isObject(b) && it.next() {
		switch string(it.key) {
		case "code":
			s, _ := text(it.val)
			e.Code = clean(s, 64)
		case "message":
			s, _ := text(it.val)
			e.Message = c.text(s)
		case "retryable":
			e.Retryable, _ = boolean(it.val)
		case "retryAfterMs":
			e.RetryAfter = millis(it.val, maxRetryAfter)
		case "details":
			e.Details = decodeDetails(it.val, depth-1, c)
		}
	}
	if e.Code == "" {
		e.Code = "UNKNOWN"
	}
	if e.Message == "" {
		e.Message = "the gateway gave no message"
	}
	return e
}

func decodeDetails(b []byte, depth int, c cleaner) ErrorDetails {
	var d ErrorDetails
	if !isObject(b) {
		return d
	}
	word := func(v []byte) string {
		s, _ := text(v)
		return clean(c.text(s), 128)
	}
	it := object(b, depth)
	for it.next() {
		switch string(it.key) {
		case "code":
			d.Code = word(it.val)
		case "reason":
			d.Reason = word(it.val)
		case "phase":
			d.Phase = word(it.val)
		case "failoverReason":
			d.FailoverReason = word(it.val)
		case "provider":
			d.Provider = word(it.val)
		case "providerErrorMessagePreview":
			s, _ := text(it.val)
			d.Preview = c.text(s)
		case "requestId":
			d.RequestID = word(it.val)
		case "httpStatus":
			if n, ok := integer(it.val); ok && n >= 100 && n < 600 {
				d.HTTPStatus = int(n)
			}
		}
	}
	return d
}

// millis decodes a number of milliseconds, clamped to 0..limit.
func millis(v []byte, limit time.Duration) time.Duration {
	n, ok := integer(v)
	if !ok || n <= 0 {
		return 0
	}
	if n > limit.Milliseconds() {
		return limit
	}
	return time.Duration(n) * time.Millisecond
}

// unixMillis decodes a time stamp; zero if absent or senseless.
func unixMillis(v []byte) time.Time {
	n, ok := integer(v)
	if !ok || n <= 0 {
		return time.Time{}
	}
	return time.UnixMilli(n)
}

var errNoPayload = errors.New("no payload")
