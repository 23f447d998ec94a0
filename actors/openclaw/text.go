package openclaw

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// maxErrText bounds texts of the gateway that end up in errors and logs.
const maxErrText = 400

// clean makes a text from outside fit for errors, logs and labels: valid
// UTF-8, no control or format characters, at most limit bytes.
func clean(s string, limit int) string {
	if len(s) > 4*limit {
		s = s[:4*limit] // enough left to fill the limit after dropping
	}
	var b strings.Builder
	for _, r := range s {
		switch {
		case r == utf8.RuneError:
			r = '?'
		case r == '\n' || r == '\t' || r == '\r':
			r = ' '
		case unicode.IsControl(r) || unicode.Is(unicode.Cf, r) || unicode.Is(unicode.Zl, r) || unicode.Is(unicode.Zp, r):
			continue
		}
		if b.Len()+utf8.RuneLen(r) > limit {
			b.WriteString("…")
			break
		}
		b.WriteRune(r)
	}
	return b.String()
}

// cleaner is clean bound to a secret: should a gateway repeat the token in a
// message, the token is cut out before the text goes anywhere.
type cleaner struct{ secret string }

func (c cleaner) text(s string) string {
	// Shorter secrets would blank out ordinary words.
	if len(c.secret) >= 8 {
		s = strings.ReplaceAll(s, c.secret, "[redacted]")
	}
	return clean(s, maxErrText)
}
