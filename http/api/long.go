package api

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"unicode/utf8"
)

// Long writes JSON whose long texts never stand in memory a second time: the
// encoder is given a mark in place of each, and Write puts the text there, a
// piece at a time. A text may be several times as long in JSON as it is.
type Long struct{ texts []string }

const (
	longFrom  = 16 << 10 // a shorter text is left to the encoder
	longPiece = 32 << 10
	markDigit = 8
)

// mark cannot be guessed, so that no text holds it.
var mark = func() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails, as its documentation says
	return "long:" + hex.EncodeToString(b[:]) + ":"
}()

// Put returns what the encoder shall be given for a text.
func (l *Long) Put(text string) string {
	if len(text) < longFrom {
		return text
	}
	l.texts = append(l.texts, text)
	return mark + fmt.Sprintf("%0*d", markDigit, len(l.texts)-1)
}

// Task puts a task's texts in.
func (l *Long) Task(t *Task) {
	t.Input.Message = l.Put(t.Input.Message)
	if t.Result != nil {
		r := *t.Result
		r.Text, t.Result = l.Put(r.Text), &r
	}
}

// MarshalJSON leaves the text out only where there is one: an answer may be empty.
func (r TaskResult) MarshalJSON() ([]byte, error) {
	type plain TaskResult
	var v any = plain(r)
	if r.Text == "" && r.Length == 0 {
		v = struct {
			plain
			Text string `json:"text"`
		}{plain: plain(r)}
	}
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false) // the encoder that called does as it was told
	err := enc.Encode(v)
	return buf.Bytes(), err
}

// Write writes what the encoder made, with the texts.
func (l *Long) Write(w io.Writer, b []byte) error {
	for len(l.texts) > 0 {
		i := bytes.Index(b, []byte(mark))
		if i < 0 {
			break
		}
		end := i + len(mark) + markDigit
		n, err := strconv.Atoi(string(b[i+len(mark) : end]))
		if err != nil {
			return fmt.Errorf("encode a long text: %w", err)
		}
		if _, err := w.Write(b[:i]); err != nil {
			return err
		}
		if err := writeText(w, l.texts[n]); err != nil {
			return err
		}
		b = b[end:]
	}
	_, err := w.Write(b)
	return err
}

// writeText writes what stands between the quotes of a text in JSON.
func writeText(w io.Writer, text string) error {
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	for len(text) > 0 {
		n := between(text, min(longPiece, len(text)))
		buf.Reset()
		if err := enc.Encode(text[:n]); err != nil {
			return fmt.Errorf("encode a long text: %w", err)
		}
		if _, err := w.Write(buf.Bytes()[1 : buf.Len()-2]); err != nil { // without quotes and line break
			return err
		}
		text = text[n:]
	}
	return nil
}

// between is the last place up to n, at least 1, where no character is cut in two. Bytes
// that are none may stand anywhere.
func between(text string, n int) int {
	for at := n - 1; at > 0 && at > n-utf8.UTFMax; at-- {
		if utf8.RuneStart(text[at]) {
			if _, size := utf8.DecodeRuneInString(text[at:]); at+size > n {
				return at
			}
			break
		}
	}
	return n
}
