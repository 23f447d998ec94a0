package server

import (
	"fmt"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"
)

// maxDepth bounds how deep a request body nests.
const maxDepth = 32

// scan reads one JSON text strictly: no repeated names, no invalid UTF-8, no
// lone surrogates, no NUL (PostgreSQL cannot hold it), no number beyond
// float64, bounded depth, nothing after the value. It is the one reader of
// request bodies: what it accepts, encoding/json reads in the same way.
type scan struct {
	b     []byte
	i     int
	depth int
	path  []string // names and indexes down to where it reads
}

// syntaxError says what is wrong and where.
type syntaxError struct {
	pointer string
	detail  string
}

func (e *syntaxError) Error() string { return e.pointer + ": " + e.detail }

func (s *scan) fail(format string, args ...any) error {
	return &syntaxError{pointer: pointer(s.path), detail: fmt.Sprintf(format, args...) + " at byte " + strconv.Itoa(s.i)}
}

// parse returns the value of a whole text in the form of encoding/json.
func parse(b []byte) (any, error) {
	s := &scan{b: b}
	v, err := s.value()
	if err != nil {
		return nil, err
	}
	return v, s.end()
}

// end refuses anything but white space.
func (s *scan) end() error {
	if s.peek() != 0 || s.i < len(s.b) {
		return s.fail("unexpected text after the value")
	}
	return nil
}

// peek skips white space and returns the next byte, 0 at the end.
func (s *scan) peek() byte {
	for s.i < len(s.b) {
		switch c := s.b[s.i]; c {
		case ' ', '\t', '\n', '\r':
			s.i++
		default:
			return c
		}
	}
	return 0
}

func (s *scan) value() (any, error) {
	switch c := s.peek(); {
	case c == '{':
		m := map[string]any{}
		err := s.object(func(name string) error {
			if _, ok := m[name]; ok {
				return s.fail("the field is repeated")
			}
			v, err := s.value()
			m[name] = v
			return err
		})
		return m, err
	case c == '[':
		a := []any{}
		err := s.array(func() error {
			v, err := s.value()
			a = append(a, v)
			return err
		})
		return a, err
	case c == '"':
		return s.text()
	case c == '-' || (c >= '0' && c <= '9'):
		return s.number()
	case c == 't':
		return true, s.word("true")
	case c == 'f':
		return false, s.word("false")
	case c == 'n':
		return nil, s.word("null")
	}
	if s.i >= len(s.b) {
		return nil, s.fail("unexpected end")
	}
	return nil, s.fail("a JSON value is expected")
}

// object calls member for each name; member must read the value.
func (s *scan) object(member func(name string) error) error {
	if s.peek() != '{' {
		return s.fail("an object is expected")
	}
	if s.depth++; s.depth > maxDepth {
		return s.fail("nested deeper than %d", maxDepth)
	}
	s.i++
	if s.peek() == '}' {
		s.i++
		s.depth--
		return nil
	}
	for {
		if s.peek() != '"' {
			return s.fail("a field name is expected")
		}
		name, err := s.text()
		if err != nil {
			return err
		}
		if s.peek() != ':' {
			return s.fail("a colon is expected")
		}
		s.i++
		s.path = append(s.path, name)
		if err := member(name); err != nil {
			return err
		}
		s.path = s.path[:len(s.path)-1]
		switch s.peek() {
		case ',':
			s.i++
		case '}':
			s.i++
			s.depth--
			return nil
		default:
			return s.fail("a comma or a closing brace is expected")
		}
	}
}

// array calls item for each element; item must read it.
func (s *scan) array(item func() error) error {
	if s.peek() != '[' {
		return s.fail("an array is expected")
	}
	if s.depth++; s.depth > maxDepth {
		return s.fail("nested deeper than %d", maxDepth)
	}
	s.i++
	if s.peek() == ']' {
		s.i++
		s.depth--
		return nil
	}
	for n := 0; ; n++ {
		s.path = append(s.path, strconv.Itoa(n))
		if err := item(); err != nil {
			return err
		}
		s.path = s.path[:len(s.path)-1]
		switch s.peek() {
		case ',':
			s.i++
		case ']':
			s.i++
			s.depth--
			return nil
		default:
			return s.fail("a comma or a closing bracket is expected")
		}
	}
}

func (s *scan) word(w string) error {
	if len(s.b)-s.i < len(w) || string(s.b[s.i:s.i+len(w)]) != w {
		return s.fail("a JSON value is expected")
	}
	s.i += len(w)
	return nil
}

// text reads a string.
func (s *scan) text() (string, error) {
	if s.peek() != '"' {
		return "", s.fail("a string is expected")
	}
	s.i++
	start := s.i
	for s.i < len(s.b) {
		switch c := s.b[s.i]; {
		case c == '"':
			t := s.b[start:s.i]
			if !utf8.Valid(t) {
				return "", s.fail("the text is not UTF-8")
			}
			s.i++
			return string(t), nil
		case c == '\\':
			return s.escaped(start)
		case c < ' ':
			return "", s.fail("a control character must be escaped")
		}
		s.i++
	}
	return "", s.fail("the string has no end")
}

// escaped reads on a string at its first escape.
func (s *scan) escaped(start int) (string, error) {
	out := append(make([]byte, 0, 2*(s.i-start)+32), s.b[start:s.i]...)
	for s.i < len(s.b) {
		c := s.b[s.i]
		switch {
		case c == '"':
			if !utf8.Valid(out) {
				return "", s.fail("the text is not UTF-8")
			}
			s.i++
			return string(out), nil
		case c < ' ':
			return "", s.fail("a control character must be escaped")
		case c != '\\':
			out = append(out, c)
			s.i++
			continue
		}
		var err error
		if out, err = s.escape(out); err != nil {
			return "", err
		}
	}
	return "", s.fail("the string has no end")
}

// escape reads one escape sequence.
func (s *scan) escape(out []byte) ([]byte, error) {
	if s.i+1 >= len(s.b) {
		return nil, s.fail("the string has no end")
	}
	c := s.b[s.i+1]
	s.i += 2
	switch c {
	case '"', '\\', '/':
		return append(out, c), nil
	case 'b':
		return append(out, '\b'), nil
	case 'f':
		return append(out, '\f'), nil
	case 'n':
		return append(out, '\n'), nil
	case 'r':
		return append(out, '\r'), nil
	case 't':
		return append(out, '\t'), nil
	case 'u':
		r, err := s.rune()
		if err != nil {
			return nil, err
		}
		return utf8.AppendRune(out, r), nil
	}
	return nil, s.fail("unknown escape")
}

// rune reads the digits after \u, and the second half of a surrogate pair.
func (s *scan) rune() (rune, error) {
	r, ok := s.hex4()
	if !ok {
		return 0, s.fail("four hexadecimal digits are expected")
	}
	if r == 0 {
		return 0, s.fail("NUL is not allowed")
	}
	if !utf16.IsSurrogate(r) {
		return r, nil
	}
	if len(s.b)-s.i >= 2 && s.b[s.i] == '\\' && s.b[s.i+1] == 'u' {
		s.i += 2
		if low, ok := s.hex4(); ok {
			if full := utf16.DecodeRune(r, low); full != utf8.RuneError {
				return full, nil
			}
		}
	}
	return 0, s.fail("half a surrogate pair")
}

func (s *scan) hex4() (rune, bool) {
	if len(s.b)-s.i < 4 {
		return 0, false
	}
	r, err := strconv.ParseUint(string(s.b[s.i:s.i+4]), 16, 16)
	if err != nil {
		return 0, false
	}
	s.i += 4
	return rune(r), true
}

// number reads a number in JSON's own form.
func (s *scan) number() (float64, error) {
	t, err := s.literal()
	if err != nil {
		return 0, err
	}
	f, err := strconv.ParseFloat(string(t), 64)
	if err != nil {
		return 0, s.fail("the number is too large")
	}
	return f, nil
}

// literal returns the characters of a number.
func (s *scan) literal() ([]byte, error) {
	s.peek()
	start := s.i
	s.skip('-')
	switch {
	case s.skip('0'):
	case !s.digits():
		return nil, s.fail("a number is expected")
	}
	if s.skip('.') && !s.digits() {
		return nil, s.fail("a digit is expected")
	}
	if s.skip('e') || s.skip('E') {
		_ = s.skip('+') || s.skip('-')
		if !s.digits() {
			return nil, s.fail("a digit is expected")
		}
	}
	return s.b[start:s.i], nil
}

func (s *scan) skip(c byte) bool {
	if s.i < len(s.b) && s.b[s.i] == c {
		s.i++
		return true
	}
	return false
}

func (s *scan) digits() bool {
	start := s.i
	for s.i < len(s.b) && s.b[s.i] >= '0' && s.b[s.i] <= '9' {
		s.i++
	}
	return s.i > start
}
