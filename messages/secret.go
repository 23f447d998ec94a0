package messages

import (
	"crypto/subtle"
	"fmt"
	"io"
	"log/slog"
)

const masked = "[redacted]"

// Secret is a text that cannot print itself: every formatting, logging and
// encoding path yields "[redacted]". Only Reveal returns the text, so a search
// for Reveal lists every place where a secret leaves the process.
type Secret string

// Reveal returns the secret text.
func (s Secret) Reveal() string { return string(s) }

// Empty reports whether there is no secret.
func (s Secret) Empty() bool { return s == "" }

// Equal compares in constant time for equal lengths.
func (s Secret) Equal(other string) bool {
	return subtle.ConstantTimeCompare([]byte(s), []byte(other)) == 1
}

// Format covers every verb: without it %d would print the text.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, masked) }

func (s Secret) String() string                { return masked }
func (s Secret) GoString() string              { return masked }
func (s Secret) LogValue() slog.Value          { return slog.StringValue(masked) }
func (s Secret) MarshalText() ([]byte, error)  { return []byte(masked), nil }
func (s Secret) MarshalJSON() ([]byte, error)  { return []byte(`"` + masked + `"`), nil }
func (s Secret) MarshalYAML() (any, error)     { return masked, nil }
func (s *Secret) UnmarshalText(b []byte) error { *s = Secret(b); return nil }
