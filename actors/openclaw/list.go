package openclaw

import (
	"errors"
	"fmt"
)

// items iterates over the elements of one JSON array, as fields does over the
// members of an object. val aliases the input.
type items struct {
	b       []byte
	i       int
	depth   int
	val     []byte
	err     error
	started bool
	ended   bool
}

// list starts an iteration; depth is how many levels the array may nest, itself
// included.
func list(b []byte, depth int) items { return items{b: b, depth: depth} }

func (l *items) fail(err error) bool {
	l.err, l.ended = err, true
	return false
}

func (l *items) next() bool {
	if l.ended {
		return false
	}
	l.i = space(l.b, l.i)
	if l.i >= len(l.b) {
		return l.fail(errNotList)
	}
	switch c := l.b[l.i]; {
	case !l.started && c == '[':
		if l.depth < 1 {
			return l.fail(errDepth)
		}
		l.started = true
		l.i = space(l.b, l.i+1)
		if l.i < len(l.b) && l.b[l.i] == ']' {
			l.ended = true
			return false
		}
	case l.started && c == ']':
		l.ended = true
		return false
	case l.started && c == ',':
		l.i = space(l.b, l.i+1)
	default:
		return l.fail(errNotList)
	}
	end, err := valueEnd(l.b, l.i, l.depth-1)
	if err != nil {
		return l.fail(err)
	}
	l.val, l.i = l.b[l.i:end], end
	return true
}

var errNotList = errors.New("not a JSON array")

// tooMany says that a list is longer than what was asked for. It is said while
// scanning, before anything of the rest is looked at.
func tooMany(what string, limit int) error {
	return fmt.Errorf("more than %d %s", limit, what)
}

// each calls row for every element of a list of at most limit; it stops at the
// first error.
func each(b []byte, depth, limit int, what string, row func([]byte) error) error {
	n := 0
	it := list(b, depth)
	for it.next() {
		if n++; n > limit {
			return tooMany(what, limit)
		}
		if err := row(it.val); err != nil {
			return err
		}
	}
	return it.err
}

// members calls row for every element of the list that an object has under a
// name; it fails without one.
func members(b []byte, depth int, name string, limit int, what string, row func([]byte) error) error {
	there := false
	it := object(b, depth)
	for it.next() {
		if string(it.key) != name || missing(it.val) {
			continue
		}
		there = true
		if err := each(it.val, depth-1, limit, what, row); err != nil {
			return err
		}
	}
	if it.err == nil && !there {
		return errors.New("no " + name + " member")
	}
	return it.err
}

// names reads a list of at most limit short texts.
func names(b []byte, limit int, what string) ([]string, error) {
	if missing(b) {
		return nil, nil
	}
	var out []string
	err := each(b, DefaultMaxDepth, limit, what, func(v []byte) error {
		s, ok := text(v)
		if !ok {
			return errors.New(what + ": not a text")
		}
		out = append(out, clean(s, 128))
		return nil
	})
	return out, err
}
