package server

import (
	"encoding/base64"
	"hash/fnv"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/dash-fleet/dash/http/api"
	"github.com/dash-fleet/dash/messages"
)

// A cursor on the outside is base64url of "<fingerprint of the query>|<cursor
// of the command>": opaque, and refused under another query.

func (c *call) fingerprint() string {
	q := url.Values{}
	for k, v := range c.query {
		if k != "cursor" && k != "limit" {
			q[k] = v
		}
	}
	h := fnv.New32a()
	h.Write([]byte(c.op.id + "?" + q.Encode()))
	return strconv.FormatUint(uint64(h.Sum32()), 36)
}

// cursor returns the command's cursor that the client sent, empty at the start.
func (c *call) cursor() (string, error) {
	v := c.query.Get("cursor")
	if v == "" {
		return "", nil
	}
	b, err := base64.RawURLEncoding.DecodeString(v)
	mark, inner, ok := strings.Cut(string(b), "|")
	if err != nil || !ok || mark != c.fingerprint() || inner == "" {
		return "", badCursor()
	}
	return inner, nil
}

// afterID is the cursor of a list that is in the order of ids: the last of them. It is
// made of text, or a store would have to refuse it.
func (c *call) afterID() (string, error) {
	id, err := c.cursor()
	if err == nil && (strings.Contains(id, "\x00") || !utf8.ValidString(id)) {
		return "", badCursor()
	}
	return id, err
}

func badCursor() error {
	return invalid(messages.FieldError{Pointer: "query:cursor", Detail: "is not a cursor of this query: take next_cursor as it was answered, with the same filter"})
}

// next is the cursor to answer with, nil at the end.
func (c *call) next(inner string) *string {
	if inner == "" {
		return nil
	}
	v := base64.RawURLEncoding.EncodeToString([]byte(c.fingerprint() + "|" + inner))
	return &v
}

// page answers with a part of a list that is sorted by id.
func page[T, V any](c *call, all []T, id func(T) string, view func(T) V) error {
	after, err := c.afterID()
	if err != nil {
		return err
	}
	if after != "" {
		i := slices.IndexFunc(all, func(t T) bool { return id(t) > after })
		if i < 0 {
			i = len(all)
		}
		all = all[i:]
	}
	n := min(len(all), c.limit())
	return part(c, all[:n], n < len(all), id, view)
}

// part answers with what a command gave of a list that is sorted by id; more says
// that others follow.
func part[T, V any](c *call, some []T, more bool, id func(T) string, view func(T) V) error {
	return c.list(len(some), func(i int, _ *api.Long) any { return view(some[i]) }, func(sent int) (end pageEnd) {
		if sent > 0 && (more || sent < len(some)) {
			end.NextCursor = c.next(id(some[sent-1]))
		}
		return end
	})
}
