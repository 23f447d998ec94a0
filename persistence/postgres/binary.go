package postgres

import (
	"encoding/binary"
	"errors"
	"math"
	"strings"
	"unicode/utf8"
)

// OIDs of the built-in types, which PostgreSQL never changes.
const (
	oidBool  = 16
	oidBytea = 17
	oidInt8  = 20
	oidInt2  = 21
	oidInt4  = 23
	oidText  = 25
)

// array builds the binary form of an array. Values are appended by hand, as the
// general encoder costs more than the statement that reads them.
type array struct {
	b     []byte
	n     int32
	start int // of the row under way
}

// arrayHead is the size of what stands before the elements: dimensions, null
// flag, element type, length, lower bound.
const arrayHead = 20

// param is the array as a parameter, nil (NULL) if it is empty.
func (a *array) param(elem uint32) []byte {
	if a.n == 0 {
		return nil
	}
	h := a.b
	binary.BigEndian.PutUint32(h[0:], 1)
	binary.BigEndian.PutUint32(h[4:], 0)
	binary.BigEndian.PutUint32(h[8:], elem)
	binary.BigEndian.PutUint32(h[12:], uint32(a.n))
	binary.BigEndian.PutUint32(h[16:], 1)
	return h
}

func (a *array) next() {
	if a.n == 0 {
		a.b = append(a.b, make([]byte, arrayHead)...)
	}
	a.n++
}

// int4 appends a plain element.
func (a *array) int4(v int) {
	a.next()
	a.b = binary.BigEndian.AppendUint32(a.b, 4)
	a.b = binary.BigEndian.AppendUint32(a.b, uint32(int32(v)))
}

// row begins a composite element of so many fields; end closes it.
func (a *array) row(fields int) {
	a.next()
	a.start = len(a.b)
	a.b = binary.BigEndian.AppendUint32(append(a.b, 0, 0, 0, 0), uint32(fields))
}

func (a *array) end() { binary.BigEndian.PutUint32(a.b[a.start:], uint32(len(a.b)-a.start-4)) }

func (a *array) head(oid, size uint32) {
	a.b = binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(a.b, oid), size)
}

func (a *array) null(oid uint32) { a.head(oid, math.MaxUint32) }

func (a *array) i8(v int64) {
	a.head(oidInt8, 8)
	a.b = binary.BigEndian.AppendUint64(a.b, uint64(v))
}

func (a *array) i4(v int) {
	a.head(oidInt4, 4)
	a.b = binary.BigEndian.AppendUint32(a.b, uint32(int32(v)))
}

func (a *array) i2(v int) {
	a.head(oidInt2, 2)
	a.b = binary.BigEndian.AppendUint16(a.b, uint16(int16(v)))
}

func (a *array) bool(v bool) {
	a.head(oidBool, 1)
	if v {
		a.b = append(a.b, 1)
		return
	}
	a.b = append(a.b, 0)
}

// text appends what a text column can hold: neither NUL nor bytes that are not
// UTF-8. Ids are checked at the border, so this only keeps a slip there from
// holding up a whole batch.
func (a *array) text(s string) {
	if strings.IndexByte(s, 0) >= 0 || !utf8.ValidString(s) {
		s = strings.ReplaceAll(strings.ToValidUTF8(s, "\uFFFD"), "\x00", "\uFFFD")
	}
	a.head(oidText, uint32(len(s)))
	a.b = append(a.b, s...)
}

// textOr is NULL for an empty text.
func (a *array) textOr(s string) {
	if s == "" {
		a.null(oidText)
		return
	}
	a.text(s)
}

// bytes is NULL for nil.
func (a *array) bytes(p []byte) {
	if p == nil {
		a.null(oidBytea)
		return
	}
	a.head(oidBytea, uint32(len(p)))
	a.b = append(a.b, p...)
}

// string appends s as bytea, which takes any bytes.
func (a *array) string(s string) {
	a.head(oidBytea, uint32(len(s)))
	a.b = append(a.b, s...)
}

// stringOr is NULL for an empty string.
func (a *array) stringOr(s string) {
	if s == "" {
		a.null(oidBytea)
		return
	}
	a.string(s)
}

// errShort: the server's answer ends too early.
var errShort = errors.New("the server's answer cannot be read")

// reader takes a binary value apart. After the first error all reads give zero.
type reader struct {
	b   []byte
	err error
}

func (r *reader) take(n int) []byte {
	if n < 0 || n > len(r.b) {
		r.b, r.err = nil, errShort
		return nil
	}
	p := r.b[:n:n]
	r.b = r.b[n:]
	return p
}

func (r *reader) uint32() uint32 {
	if p := r.take(4); p != nil {
		return binary.BigEndian.Uint32(p)
	}
	return 0
}

// elements reads the head of an array and returns its length; 0 for NULL.
func (r *reader) elements() int {
	if r.b == nil {
		return 0
	}
	if dims := r.uint32(); dims == 0 {
		return 0
	}
	r.take(8)
	n := r.uint32()
	r.take(4)
	if n > uint32(len(r.b)) {
		r.err = errShort
		return 0
	}
	return int(n)
}

// value is the next length-prefixed value, nil for NULL.
func (r *reader) value() []byte {
	n := int32(r.uint32())
	if n == -1 {
		return nil
	}
	return r.take(int(n))
}

// field is the next field of a composite value.
func (r *reader) field() []byte {
	r.take(4) // its type
	return r.value()
}

func (r *reader) i8() int64 { return number(r.field()) }

func (r *reader) text() string { return string(r.field()) }

// number reads an integer of any width, 0 for NULL.
func number(p []byte) int64 {
	switch len(p) {
	case 2:
		return int64(int16(binary.BigEndian.Uint16(p)))
	case 4:
		return int64(int32(binary.BigEndian.Uint32(p)))
	case 8:
		return int64(binary.BigEndian.Uint64(p))
	}
	return 0
}

// numbers reads an integer[].
func numbers(p []byte) ([]int, error) {
	r := reader{b: p}
	list := make([]int, r.elements())
	for i := range list {
		list[i] = int(number(r.value()))
	}
	return list, r.err
}
