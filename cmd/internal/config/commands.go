package config

import (
	"fmt"
	"slices"
	"strings"
)

// Commands are command lines, each split into its words. As text they stand
// beside each other with a semicolon or a line's end between them.
type Commands [][]string

// String returns a text from which Set makes the same commands.
func (c Commands) String() string {
	lines := make([]string, 0, len(c))
	for _, words := range c {
		quoted := make([]string, 0, len(words))
		for _, w := range words {
			quoted = append(quoted, quote(w))
		}
		lines = append(lines, strings.Join(quoted, " "))
	}
	return strings.Join(lines, "; ")
}

// Set implements pflag.Value: a flag that is repeated adds to what is there.
func (c *Commands) Set(s string) error {
	more, err := splitCommands(s)
	*c = append(*c, more...)
	return err
}

// Type implements pflag.Value.
func (c *Commands) Type() string { return "commands" }

func quote(word string) string {
	if word != "" && !strings.ContainsAny(word, " \t\n;'\"\\") {
		return word
	}
	return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
}

func parseCommands(raw any, text string, isText bool) (all Commands, err error) {
	if isText {
		return splitCommands(text)
	}
	list, ok := raw.([]any)
	if !ok {
		return nil, fmt.Errorf("a list of commands is expected, not %T", raw)
	}
	for _, v := range list {
		line, ok := v.(string)
		if !ok {
			return nil, fmt.Errorf("a list of commands is expected, but it holds %T", v)
		}
		if err := all.Set(line); err != nil {
			return nil, err
		}
	}
	return all, nil
}

func splitCommands(s string) (Commands, error) { return split(s, ";\n") }

// SplitWords splits a command line at blanks. Single and double quotes keep
// blanks; a backslash keeps the next character except inside single quotes.
// Nothing is expanded, and no shell is involved.
func SplitWords(s string) ([]string, error) {
	all, err := split(s, "")
	if err != nil {
		return nil, err
	}
	return slices.Concat(all...), nil
}

// split also ends a command at each of the runes of ends that no quotation keeps.
func split(s, ends string) (all Commands, err error) {
	var words []string
	var word strings.Builder
	var quoted rune
	inWord, escaped := false, false
	end := func() {
		if inWord {
			words = append(words, word.String())
			word.Reset()
			inWord = false
		}
	}
	for _, r := range s {
		switch {
		case escaped:
			word.WriteRune(r)
			escaped = false
		case r == '\\' && quoted != '\'':
			escaped, inWord = true, true
		case quoted != 0 && r == quoted:
			quoted = 0
		case quoted != 0:
			word.WriteRune(r)
		case r == '\'' || r == '"':
			quoted, inWord = r, true
		case strings.ContainsRune(ends, r):
			if end(); len(words) > 0 {
				all, words = append(all, words), nil
			}
		case r == ' ' || r == '\t' || r == '\n':
			end()
		default:
			word.WriteRune(r)
			inWord = true
		}
	}
	if quoted != 0 || escaped {
		return nil, fmt.Errorf("the command %q ends inside a quotation", s)
	}
	if end(); len(words) > 0 {
		all = append(all, words)
	}
	return all, nil
}
