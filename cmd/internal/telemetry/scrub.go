package telemetry

import (
	"regexp"
	"slices"
	"strings"
)

// shapes find secrets inside texts. A shape either matches the secret itself
// or, with value set, the marker before it; values of different markers may
// overlap, so that a stray quotation mark cannot hide the marker after it.
var shapes = []struct {
	pattern *regexp.Regexp
	value   func(after string) (start, end int)
}{
	{regexp.MustCompile(`\bdash_[A-Za-z0-9]+[_.][A-Za-z0-9_.-]{8,}`), nil},
	{regexp.MustCompile(`\beyJ[A-Za-z0-9_-]{5,}\.[A-Za-z0-9_-]+\.?[A-Za-z0-9_-]*`), nil}, // JSON web token
	{regexp.MustCompile(`(?i)\b(?:bearer|basic)[ \t]+`), word},
	{regexp.MustCompile(`://[^/\s:@]*:`), userinfo},
	{regexp.MustCompile(`(?i)(?:password|passwd|passphrase|secret|token|api[_-]?key|authorization|cookie|credential|private[_-]?key)(?:\\?["'])?\s*[=:]\s*`), quoted},
}

// word is a credential that ends at a blank or a delimiter.
func word(s string) (int, int) {
	end := strings.IndexFunc(s, func(r rune) bool { return strings.ContainsRune(" \t\r\n,;&\"'<>{}()\\", r) })
	if end < 0 {
		end = len(s)
	}
	if end < 4 { // a word such as "is"
		return 0, 0
	}
	return 0, end
}

// userinfo is the password of user:password@host.
func userinfo(s string) (int, int) {
	end := strings.IndexAny(s, "@/ \t\r\n")
	if end < 0 || s[end] != '@' {
		return 0, 0
	}
	return 0, end
}

// quoted is what stands in quotation marks, escaped ones too, or else a word.
func quoted(s string) (int, int) {
	for _, quote := range []string{`\"`, `"`, "'"} {
		rest, ok := strings.CutPrefix(s, quote)
		if !ok {
			continue
		}
		end := len(rest)
		for from := 0; from < len(rest); {
			i := strings.Index(rest[from:], quote)
			if i < 0 {
				break
			}
			if at := from + i; at == 0 || rest[at-1] != '\\' {
				end = at
				break
			}
			from += i + len(quote)
		}
		return len(quote), len(quote) + end
	}
	end := strings.IndexAny(s, " \t\r\n,;&\"'}")
	if end < 0 {
		end = len(s)
	}
	return 0, end
}

// scrub masks secrets by their shape and cuts what is too long.
func scrub(s string) string {
	if len(s) > maxValue {
		s = s[:maxValue] + "… (cut)"
	}
	if len(s) < 4 {
		return s
	}
	type span struct{ start, end int }
	var spans []span
	for _, sh := range shapes {
		for _, m := range sh.pattern.FindAllStringIndex(s, -1) {
			start, end := m[0], m[1]
			if sh.value != nil {
				from, to := sh.value(s[m[1]:])
				start, end = m[1]+from, m[1]+to
			}
			if start < end && s[start:end] != Mask {
				spans = append(spans, span{start, end})
			}
		}
	}
	if len(spans) == 0 {
		return s
	}
	slices.SortFunc(spans, func(a, b span) int { return a.start - b.start })
	var b strings.Builder
	at := 0
	for _, sp := range spans {
		if sp.end <= at {
			continue
		}
		if sp.start >= at {
			b.WriteString(s[at:sp.start])
			b.WriteString(Mask)
		}
		at = sp.end
	}
	b.WriteString(s[at:])
	return b.String()
}
