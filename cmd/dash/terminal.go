package main

import (
	"io"
	"os"
	"strings"
	"time"

	"golang.org/x/term"
)

// terminal is what surrounds a command: its streams and its environment.
type terminal struct {
	in       io.Reader
	out, err io.Writer
	environ  []string
	program  string // as it was called, for example bin/dash
	// person says that stderr is a terminal, so progress may be drawn;
	// width is that of stdout in columns, 0 when it is no terminal.
	person bool
	width  int
	// screen says that stdout is a terminal, where texts of others are cleaned;
	// a file or a pipe gets them as they are.
	screen bool
	// asks says that stdin and stderr are terminals, so questions are possible.
	asks bool
	// patience bounds a call over the API; 0: the usual time.
	patience time.Duration
	// beats come once every reasonPause; nil: they do by the clock.
	beats <-chan time.Time
}

func systemTerminal() *terminal {
	t := &terminal{in: os.Stdin, out: os.Stdout, err: os.Stderr, environ: os.Environ(), program: os.Args[0]}
	t.screen = term.IsTerminal(int(os.Stdout.Fd()))
	dumb := t.getenv("TERM") == "dumb"
	t.person = !dumb && term.IsTerminal(int(os.Stderr.Fd()))
	t.asks = t.person && term.IsTerminal(int(os.Stdin.Fd()))
	if w, _, err := term.GetSize(int(os.Stdout.Fd())); err == nil && !dumb {
		t.width = w
	}
	return t
}

// colour reports whether escape sequences may be written to stderr.
func (t *terminal) colour() bool { return t.person && t.getenv("NO_COLOR") == "" }

func (t *terminal) getenv(name string) string {
	for i := len(t.environ) - 1; i >= 0; i-- {
		if k, v, ok := strings.Cut(t.environ[i], "="); ok && k == name {
			return v
		}
	}
	return ""
}

// self is how this command was called, for texts that say what to run next.
func (t *terminal) self() string {
	if t.program == "" {
		return "dash"
	}
	return t.program
}
