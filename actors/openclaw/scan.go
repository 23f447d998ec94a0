package openclaw

import (
	"bytes"
	"encoding/json"
	"errors"
	"strconv"
)

// The scanner walks the top level of a JSON object without decoding what
// nobody asked for: the final answer of a run is about 12 kB, of which 300
// bytes matter. It checks brackets, strings and depth everywhere, and the full
// grammar only where it walks; leaves that are used go through encoding/json.

var (
	errNotJSON = errors.New("not a JSON object")
	errDepth   = errors.New("JSON nested too deep")
)

func space(b []byte, i int) int {
	for i < len(b) && (b[i] == ' ' || b[i] == '\n' || b[i] == '\t' || b[i] == '\r') {
		i++
	}
	return i
}

// stringEnd returns the index behind the closing quote of the string that
// opens at b[i].
func stringEnd(b []byte, i int) (int, error) {
	for i++; i < len(b); {
		q := bytes.IndexByte(b[i:], '"')
		if q < 0 {
			return 0, errNotJSON
		}
		// The quote is escaped if an odd number of backslashes precedes it.
		n := 0
		for j := i + q - 1; j >= i && b[j] == '\\'; j-- {
			n++
		}
		i += q + 1
		if n%2 == 0 {
			return i, nil
		}
	}
	return 0, errNotJSON
}

func literalByte(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '-' || c == '+' || c == '.'
}

// valueEnd returns the index behind the value that begins at b[i]; depth is
// how many more levels it may open.
func valueEnd(b []byte, i, depth int) (int, error) {
	if i >= len(b) {
		return 0, errNotJSON
	}
	switch c := b[i]; {
	case c == '"':
		return stringEnd(b, i)
	case c == '{' || c == '[':
		return bracketEnd(b, i, depth)
	case literalByte(c):
		for i < len(b) && literalByte(b[i]) {
			i++
		}
		return i, nil
	}
	return 0, errNotJSON
}

func bracketEnd(b []byte, i, depth int) (int, error) {
	var curly [maxDepthLimit / 64]uint64 // one bit per level: is it an object?
	level := 0
	for i < len(b) {
		switch c := b[i]; c {
		case '"':
			end, err := stringEnd(b, i)
			if err != nil {
				return 0, err
			}
			i = end
			continue
		case '{', '[':
			if level >= depth || level >= maxDepthLimit {
				return 0, errDepth
			}
			if c == '{' {
				curly[level/64] |= 1 << (level % 64)
			} else {
				curly[level/64] &^= 1 << (level % 64)
			}
			level++
		case '}', ']':
			level--
			if (curly[level/64]>>(level%64)&1 == 1) != (c == '}') {
				return 0, errNotJSON
			}
			if level == 0 {
				return i + 1, nil
			}
		}
		i++
	}
	return 0, errNotJSON
}

// fields iterates over the members of one JSON object. key and val alias the
// input. After next returned false, err tells whether the object was whole.
type fields struct {
	b        []byte
	i        int
	depth    int
	key, val []byte
	err      error
	started  bool
	ended    bool
}

// object starts an iteration; depth is how many levels the object may nest,
// itself included.
func object(b []byte, depth int) fields { return fields{b: b, depth: depth} }

func (f *fields) fail(err error) bool {
	f.err, f.ended = err, true
	return false
}

func (f *fields) finish() bool {
	f.ended = true
	if space(f.b, f.i) != len(f.b) {
		f.err = errNotJSON
	}
	return false
}

func (f *fields) next() bool {
	if f.ended {
		return false
	}
	f.i = space(f.b, f.i)
	if f.i >= len(f.b) {
		return f.fail(errNotJSON)
	}
	switch c := f.b[f.i]; {
	case !f.started && c == '{':
		if f.depth < 1 {
			return f.fail(errDepth)
		}
		f.started = true
		f.i = space(f.b, f.i+1)
		if f.i < len(f.b) && f.b[f.i] == '}' {
			f.i++
			return f.finish()
		}
	case f.started && c == '}':
		f.i++
		return f.finish()
	case f.started && c == ',':
		f.i = space(f.b, f.i+1)
	default:
		return f.fail(errNotJSON)
	}
	return f.member()
}

func (f *fields) member() bool {
	if f.i >= len(f.b) || f.b[f.i] != '"' {
		return f.fail(errNotJSON)
	}
	end, err := stringEnd(f.b, f.i)
	if err != nil {
		return f.fail(err)
	}
	f.key = f.b[f.i+1 : end-1]
	if bytes.IndexByte(f.key, '\\') >= 0 {
		var s string
		if json.Unmarshal(f.b[f.i:end], &s) != nil {
			return f.fail(errNotJSON)
		}
		f.key = []byte(s)
	}
	f.i = space(f.b, end)
	if f.i >= len(f.b) || f.b[f.i] != ':' {
		return f.fail(errNotJSON)
	}
	f.i = space(f.b, f.i+1)
	end, err = valueEnd(f.b, f.i, f.depth-1)
	if err != nil {
		return f.fail(err)
	}
	f.val = f.b[f.i:end]
	f.i = end
	return true
}

// integer decodes a JSON number; fractions are cut off. False for any other
// value and for numbers outside of 53 bits.
func integer(v []byte) (int64, bool) {
	if len(v) == 0 || len(v) > 32 {
		return 0, false
	}
	if n, err := strconv.ParseInt(string(v), 10, 64); err == nil {
		return n, n > -(1<<53) && n < 1<<53
	}
	x, err := strconv.ParseFloat(string(v), 64)
	if err != nil || !(x > -(1<<53) && x < 1<<53) {
		return 0, false
	}
	return int64(x), true
}

func boolean(v []byte) (val, ok bool) {
	switch string(v) {
	case "true":
		return true, true
	case "false":
		return false, true
	}
	return false, false
}

// missing reports whether a value is absent for our purposes.
func missing(v []byte) bool { return len(v) == 0 || string(v) == "null" }

func isObject(v []byte) bool { return len(v) > 0 && v[0] == '{' }
