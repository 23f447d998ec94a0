package openclaw

import (
	"strings"
	"unicode"
)

// CommandGuard is the line in front of a message that the gateway would carry
// out as a command instead of giving it to the model: what a task says is data.
const CommandGuard = "Task:\n"

// commandStart begins every command of a gateway. Of all commands, `agent`
// carries out /new and /reset, in any case and behind white space (seen on
// 2026.9.6); the others reach the model.
const commandStart = '/'

// guarded is the message as the gateway gets it. Only one whose first visible
// character can start a command is changed.
func guarded(message string) string {
	i := strings.IndexFunc(message, visible)
	if i < 0 || message[i] != commandStart {
		return message
	}
	return CommandGuard + message
}

// visible reports whether a character shows: no white space, no control or
// format character, no filler.
func visible(r rune) bool {
	switch r {
	case '\u034f', '\u115f', '\u1160', '\u17b4', '\u17b5', '\u2800', '\u3164', '\uffa0':
		return false
	}
	return !unicode.IsSpace(r) && !unicode.In(r, unicode.Cc, unicode.Cf, unicode.Zl, unicode.Zp, unicode.Zs, unicode.Variation_Selector)
}
