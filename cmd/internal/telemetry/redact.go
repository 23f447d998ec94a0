package telemetry

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"unicode"
)

// Mask stands in place of a secret.
const Mask = "[redacted]"

// maxValue bounds how much of one attribute is looked at, in bytes of its text
// or JSON form: a longer text is cut, so that a log line stays a line and the
// patterns below run in bounded time.
const maxValue = 16 << 10

// Redact wraps a handler so that no secret reaches it:
//   - a value whose key names a secret (password, token, apiKey, authorization,
//     cookie and the like, in any spelling) is masked, also inside groups, maps,
//     slices and structs, at any depth;
//   - a messages.Secret masks itself;
//   - inside texts (the message too) bearer credentials, Dash's own keys, JSON
//     web tokens, user:password in URLs, and secret=value or "secret":"value"
//     pairs are masked.
func Redact(next slog.Handler) slog.Handler { return redactor{next: next} }

type redactor struct {
	next slog.Handler
	// hidden says that an open group has a name that names a secret.
	hidden bool
}

func (r redactor) Enabled(ctx context.Context, l slog.Level) bool { return r.next.Enabled(ctx, l) }

func (r redactor) Handle(ctx context.Context, rec slog.Record) error {
	out := slog.NewRecord(rec.Time, rec.Level, scrub(rec.Message), rec.PC)
	rec.Attrs(func(a slog.Attr) bool {
		out.AddAttrs(r.attr(a))
		return true
	})
	return r.next.Handle(ctx, out)
}

func (r redactor) WithAttrs(attrs []slog.Attr) slog.Handler {
	masked := make([]slog.Attr, len(attrs))
	for i, a := range attrs {
		masked[i] = r.attr(a)
	}
	return redactor{next: r.next.WithAttrs(masked), hidden: r.hidden}
}

func (r redactor) WithGroup(name string) slog.Handler {
	if name == "" {
		return r
	}
	return redactor{next: r.next.WithGroup(scrub(name)), hidden: r.hidden || namesSecret(name)}
}

func (r redactor) attr(a slog.Attr) slog.Attr {
	v := a.Value.Resolve()
	key := scrub(a.Key)
	if v.Kind() == slog.KindGroup {
		members := v.Group()
		masked := make([]slog.Attr, len(members))
		inside := redactor{hidden: r.hidden || namesSecret(a.Key)}
		for i, m := range members {
			masked[i] = inside.attr(m)
		}
		return slog.Attr{Key: key, Value: slog.GroupValue(masked...)}
	}
	if r.hidden || namesSecret(a.Key) && !harmless(a.Key, v.Any()) {
		return slog.String(key, Mask)
	}
	return slog.Attr{Key: key, Value: value(v)}
}

func value(v slog.Value) slog.Value {
	switch v.Kind() {
	case slog.KindString:
		return slog.StringValue(scrub(v.String()))
	case slog.KindAny:
		return slog.AnyValue(plain(v.Any()))
	case slog.KindDuration: // in JSON it would be a bare number of nanoseconds
		return slog.StringValue(v.Duration().String())
	default:
		return v
	}
}

// plain turns any value into texts, numbers, maps and slices with the secrets
// masked. What cannot be encoded is named by its type.
func plain(v any) (out any) {
	defer func() { // a String, Error or MarshalJSON method of a nil pointer
		if recover() != nil {
			out = fmt.Sprintf("(%T that cannot be printed)", v)
		}
	}()
	switch x := v.(type) {
	case nil:
		return nil
	case error:
		return scrub(x.Error())
	case json.Marshaler:
	case fmt.Stringer:
		return scrub(x.String())
	case []byte:
		return scrub(string(x))
	}
	raw, err := json.Marshal(v)
	if err != nil {
		return fmt.Sprintf("(%T that cannot be encoded)", v)
	}
	if len(raw) > maxValue {
		return scrub(string(raw))
	}
	d := json.NewDecoder(strings.NewReader(string(raw)))
	d.UseNumber()
	var tree any
	if err := d.Decode(&tree); err != nil {
		return fmt.Sprintf("(%T that cannot be encoded)", v)
	}
	return walk(tree)
}

func walk(v any) any {
	switch x := v.(type) {
	case string:
		return scrub(x)
	case []any:
		for i := range x {
			x[i] = walk(x[i])
		}
		return x
	case map[string]any:
		out := make(map[string]any, len(x))
		for k, m := range x {
			if namesSecret(k) && !harmless(k, m) {
				out[scrub(k)] = Mask
			} else {
				out[scrub(k)] = walk(m)
			}
		}
		return out
	default:
		return v
	}
}

// secretWords are looked for in a key after everything but letters and digits
// has been dropped.
var secretWords = []string{
	"password", "passwd", "passphrase", "secret", "token", "apikey", "authorization",
	"cookie", "credential", "privatekey", "accesskey", "clusterkey", "bearer", "jwt",
}

func namesSecret(key string) bool {
	folded := strings.Map(func(r rune) rune {
		if unicode.IsLetter(r) || unicode.IsDigit(r) {
			return unicode.ToLower(r)
		}
		return -1
	}, key)
	for _, w := range secretWords {
		if strings.Contains(folded, w) {
			return true
		}
	}
	return folded == "pwd" || folded == "auth" || folded == "key"
}

// harmless lets counts such as input_tokens pass: plural, and a number.
func harmless(key string, v any) bool {
	k := strings.ToLower(key)
	if !strings.HasSuffix(k, "tokens") {
		return false
	}
	switch v.(type) {
	case int, int32, int64, uint32, uint64, float64, json.Number:
		return true
	}
	return false
}
