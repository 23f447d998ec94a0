package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"syscall"

	"github.com/dash-fleet/dash/messages"
)

// Exit codes, as documented by "dash help exit-codes".
const (
	exitOK             = 0
	exitFailed         = 1
	exitUsage          = 2
	exitNotFound       = 3
	exitConflict       = 4
	exitAuth           = 5
	exitUnavailable    = 6
	exitPartial        = 7
	exitInfrastructure = 69
	exitInterrupted    = 130
)

const exitCodesHelp = `Exit codes of every dash command:

  0    done
  1    failed
  2    wrong usage: unknown command or flag, missing or malformed argument
  3    not found
  4    conflict: the thing exists already, or is in a state that forbids it
  5    not authenticated or not permitted; an archive that is not trusted
  6    unavailable or timed out; the same command may succeed later
  7    partly done: some items succeeded, others did not
  69   infrastructure missing: a program or service the command needs is not there
  130  interrupted (Ctrl-C); what was submitted continues
`

// failure is an error with an exit code, in the words a user needs: what
// happened and why, and what to do next.
type failure struct {
	code      int
	what      string
	next      string
	fields    []messages.FieldError
	requestID string
	err       error
}

func (f *failure) Error() string { return f.what }
func (f *failure) Unwrap() error { return f.err }

func usage(next, format string, args ...any) *failure {
	return &failure{code: exitUsage, what: fmt.Sprintf(format, args...), next: next}
}

// quietExit ends a command with a code when everything was said already.
type quietExit int

func (q quietExit) Error() string { return fmt.Sprintf("exit code %d", int(q)) }

// exitCode says what a command's error means to the shell.
func exitCode(err error) int {
	var f *failure
	var q quietExit
	var m *messages.Error
	switch {
	case err == nil, errors.Is(err, syscall.EPIPE):
		return exitOK // whoever read our output has seen enough
	case errors.As(err, &q):
		return int(q)
	case errors.As(err, &f):
		return f.code
	case errors.As(err, &m):
		return codeOf(m.Code)
	case errors.Is(err, context.Canceled):
		return exitInterrupted
	case errors.Is(err, context.DeadlineExceeded):
		return exitUnavailable
	}
	return exitFailed
}

func codeOf(c messages.Code) int {
	switch c {
	case messages.CodeInvalid, messages.CodeTooLarge, messages.CodeNotSupported:
		return exitUsage
	case messages.CodeUnauthorized, messages.CodeForbidden:
		return exitAuth
	case messages.CodeNotFound:
		return exitNotFound
	case messages.CodeConflict, messages.CodeKeyReused, messages.CodeWrongPool, messages.CodeWrongState,
		messages.CodeVersionClash, messages.CodeSessionParked:
		return exitConflict
	case messages.CodeQueueFull, messages.CodeUnavailable, messages.CodeStandby, messages.CodeTimeout, messages.CodeShuttingDown:
		return exitUnavailable
	}
	return exitFailed
}

// report writes an error the way every command does.
func report(w io.Writer, err error) {
	var f *failure
	var q quietExit
	var m *messages.Error
	switch {
	case err == nil, errors.Is(err, syscall.EPIPE), errors.As(err, &q):
		return
	case errors.As(err, &f):
	case errors.As(err, &m):
		f = &failure{what: m.Message, next: m.NextStep, fields: m.Fields}
	case errors.Is(err, context.Canceled):
		f = &failure{what: "interrupted"}
	default:
		f = &failure{what: err.Error()}
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n", prefixed(clean(f.what)))
	for _, fe := range f.fields {
		// The API's summary of a single wrong field repeats it.
		if fe.Detail != f.what && fe.Pointer+" "+fe.Detail != f.what && fe.Pointer+": "+fe.Detail != f.what {
			fmt.Fprintf(&b, "  %s: %s\n", clean(fe.Pointer), clean(fe.Detail))
		}
	}
	if f.next != "" {
		fmt.Fprintf(&b, "  next: %s\n", clean(f.next))
	}
	if f.requestID != "" {
		fmt.Fprintf(&b, "  request id: %s\n", clean(f.requestID))
	}
	// There is nowhere left to report a failed write to stderr.
	_, _ = io.WriteString(w, b.String())
}

// clean drops what would steer a terminal: texts come from gateways and
// clients, which are not trusted.
func clean(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\n' || r == '\t':
			return r
		case r < ' ' || steers(r):
			return '�'
		}
		return r
	}, s)
}

// steers reports characters beyond ASCII's controls that move the cursor, change
// colours or show a text in another order than it has: DEL, C1, and those for
// bidirectional text.
func steers(r rune) bool {
	switch {
	case r >= 0x7f && r < 0xa0, r == 0x061c, r == 0x200e, r == 0x200f, r >= 0x202a && r <= 0x202e, r >= 0x2066 && r <= 0x2069:
		return true
	}
	return false
}

// escaped writes such characters as JSON and YAML do in double quotes: whoever
// parses it gets the same text.
func escaped(s string) string {
	if !strings.ContainsFunc(s, steers) {
		return s
	}
	var b strings.Builder
	for _, r := range s {
		if steers(r) {
			fmt.Fprintf(&b, `\u%04x`, r)
		} else {
			b.WriteRune(r)
		}
	}
	return b.String()
}

// prefixed names the speaker, once.
func prefixed(what string) string {
	if strings.HasPrefix(what, "dash ") {
		return what
	}
	return "dash: " + what
}
