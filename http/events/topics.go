package events

import (
	"strings"

	"github.com/dash-fleet/dash/messages"
)

// Topics selects events. The zero value selects everything.
type Topics struct {
	names    []string
	patterns []pattern
}

// pattern is kind, subject and verb; "*" fits anything.
type pattern struct{ kind, id, verb string }

// ParseTopics reads patterns that fit the document's EventTopic. None means everything.
func ParseTopics(names []string) Topics {
	t := Topics{names: names}
	for _, n := range names {
		p := pattern{"*", "*", "*"}
		if kind, rest, ok := strings.Cut(n, "."); ok {
			p.kind = kind
			if i := strings.LastIndexByte(rest, '.'); i >= 0 {
				p.id, p.verb = rest[:i], rest[i+1:]
			}
		}
		t.patterns = append(t.patterns, p)
	}
	return t
}

// Names are the patterns as they were given; everything is "*".
func (t Topics) Names() []string {
	if len(t.names) == 0 {
		return []string{"*"}
	}
	return t.names
}

// Match reports whether the event is selected.
func (t Topics) Match(e *messages.Event) bool {
	if len(t.patterns) == 0 {
		return true
	}
	kind, verb, _ := strings.Cut(e.Type, ".")
	for _, p := range t.patterns {
		if fits(p.kind, kind) && fits(p.id, e.Subject) && fits(p.verb, verb) {
			return true
		}
	}
	return false
}

func fits(pattern, s string) bool { return pattern == "*" || pattern == s }

// ValidTopic reports whether a pattern fits the document's EventTopic.
func ValidTopic(s string) bool {
	if s == "*" {
		return true
	}
	kind, rest, ok := strings.Cut(s, ".")
	if !ok || (kind != "task" && kind != "gateway" && kind != "session") {
		return false
	}
	if rest == "*" {
		return true
	}
	i := strings.LastIndexByte(rest, '.')
	if i < 0 {
		return false
	}
	id, verb := rest[:i], rest[i+1:]
	return (id == "*" || messages.CheckID(id) == nil) && (verb == "*" || validVerb(verb))
}

func validVerb(s string) bool {
	for i := range len(s) {
		if c := s[i]; (c < 'a' || c > 'z') && c != '_' {
			return false
		}
	}
	return s != "" && len(s) <= 32
}
