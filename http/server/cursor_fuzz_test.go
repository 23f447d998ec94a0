package server

import (
	"net/http"
	"net/url"
	"testing"

	"github.com/dash-fleet/dash/messages"
)

// FuzzCursor: what a client sends as cursor is refused as such, or is one that this
// query gave out; what a query gives out it takes back, and no other query does.
func FuzzCursor(f *testing.F) {
	for _, s := range []string{"", "abc", "MXxh", "AAAA|", "\xff", "c2VjcmV0fA"} {
		f.Add(s, "task-1", "state=queued")
	}
	f.Fuzz(func(t *testing.T, sent, inner, query string) {
		q, err := url.ParseQuery(query)
		if err != nil {
			return
		}
		q.Del("cursor")
		q.Del("limit")
		c := &call{op: &operation{id: "listTasks"}, query: q}
		q.Set("cursor", sent)
		got, err := c.cursor()
		switch {
		case err != nil && messages.CodeOf(err) != messages.CodeInvalid:
			t.Fatalf("refused with %v", err)
		case err == nil && sent != "" && got == "":
			t.Fatalf("%q was taken for no cursor", sent)
		}
		if next := c.next(inner); next != nil {
			q.Set("cursor", *next)
			if got, err := c.cursor(); err != nil || got != inner {
				t.Fatalf("gave %q for %q and read %q, %v", *next, inner, got, err)
			}
			other := &call{op: &operation{id: "listSessions"}, query: q}
			if _, err := other.cursor(); err == nil {
				t.Fatalf("another list took %q", *next)
			}
		}
	})
}

// FuzzPosition: where a stream begins, header and query together, is a place in the
// log or none; whatever else is refused before.
func FuzzPosition(f *testing.F) {
	for _, s := range []string{"", "0", "-1", "9223372036854775807", "9223372036854775808", "1e3", "+5", " 1", "0x10", "\x00"} {
		f.Add(s, s)
	}
	doc, err := loadDocument()
	if err != nil {
		f.Fatal(err)
	}
	op := doc.ops["streamEvents"]
	f.Fuzz(func(t *testing.T, header, since string) {
		h := http.Header{"Last-Event-Id": {header}}
		q, err := op.checkQuery(url.Values{"since": {since}}.Encode())
		if err != nil || op.checkHeaders(h) != nil {
			return
		}
		c := &call{op: op, query: q, r: &http.Request{Header: h}}
		if n := c.position(); n != nil && *n < 0 {
			t.Fatalf("%q and %q begin at %d", header, since, *n)
		}
	})
}
