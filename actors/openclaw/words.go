package openclaw

import (
	"bytes"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// maxWord bounds, in bytes, a text that is an id, a word or a message: whatever
// is longer is cut. Texts with a limit of their own go through a keeper.
const maxWord = 8 << 10

// keeper collects JSON strings and keeps no more than limit bytes of them, cut
// between characters, however long they are. What it gives out is storable:
// valid UTF-8 without NUL, which no text column takes.
type keeper struct {
	limit int
	whole int // bytes of all of it
	full  bool
	b     strings.Builder
}

// add appends the value of a JSON string; false: it is none.
func (k *keeper) add(v []byte) bool {
	if len(v) < 2 || v[0] != '"' {
		return false
	}
	in := v[1 : len(v)-1]
	k.b.Grow(min(k.limit-k.b.Len(), len(in)))
	for len(in) > 0 {
		if in[0] == '\\' {
			r, n := unescape(in)
			if n == 0 {
				return false
			}
			k.rune(r)
			in = in[n:]
			continue
		}
		n := bytes.IndexByte(in, '\\')
		if n < 0 {
			n = len(in)
		}
		k.bytes(in[:n])
		in = in[n:]
	}
	return true
}

func (k *keeper) bytes(s []byte) {
	if bytes.IndexByte(s, 0) >= 0 || !utf8.Valid(s) {
		for len(s) > 0 {
			r, n := utf8.DecodeRune(s)
			k.rune(r)
			s = s[n:]
		}
		return
	}
	k.whole += len(s)
	if room := k.limit - k.b.Len(); len(s) > room && !k.full {
		k.full = true
		for room > 0 && !utf8.RuneStart(s[room]) {
			room--
		}
		k.b.Write(s[:room])
	} else if !k.full {
		k.b.Write(s)
	}
}

func (k *keeper) rune(r rune) {
	if r == 0 {
		r = utf8.RuneError
	}
	n := utf8.RuneLen(r)
	k.whole += n
	if k.full = k.full || k.b.Len()+n > k.limit; !k.full {
		k.b.WriteRune(r)
	}
}

// text is what was kept, and the length in bytes of the whole if that was cut,
// else 0.
func (k *keeper) text() (string, int) {
	s := k.b.String()
	if k.b.Cap() > 2*len(s) {
		s = strings.Clone(s) // it must not hold the rest of its memory
	}
	if k.full {
		return s, k.whole
	}
	return s, 0
}

// quoted decodes a JSON string into at most limit bytes; whole is its length if
// it was cut, else 0.
func quoted(v []byte, limit int) (s string, whole int, ok bool) {
	k := keeper{limit: limit}
	if !k.add(v) {
		return "", 0, false
	}
	s, whole = k.text()
	return s, whole, true
}

// text decodes a JSON string that is an id, a word or a message; false for any
// other value.
func text(v []byte) (string, bool) {
	s, _, ok := quoted(v, maxWord)
	return s, ok
}

// unescape reads the escape sequence at the beginning of b; n is 0 if it is none.
func unescape(b []byte) (r rune, n int) {
	if len(b) < 2 {
		return 0, 0
	}
	switch c := b[1]; c {
	case '"', '\\', '/':
		return rune(c), 2
	case 'b':
		return '\b', 2
	case 'f':
		return '\f', 2
	case 'n':
		return '\n', 2
	case 'r':
		return '\r', 2
	case 't':
		return '\t', 2
	case 'u':
	default:
		return 0, 0
	}
	r = hex4(b)
	if r < 0 {
		return 0, 0
	}
	if !utf16.IsSurrogate(r) {
		return r, 6
	}
	if pair := utf16.DecodeRune(r, hex4(b[6:])); pair != utf8.RuneError {
		return pair, 12
	}
	return utf8.RuneError, 6
}

// hex4 reads \uXXXX at the beginning of b; -1 if it is not there.
func hex4(b []byte) rune {
	if len(b) < 6 || b[0] != '\\' || b[1] != 'u' {
		return -1
	}
	r, err := strconv.ParseUint(string(b[2:6]), 16, 16)
	if err != nil {
		return -1
	}
	return rune(r)
}
