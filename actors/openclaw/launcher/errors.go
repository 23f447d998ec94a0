package launcher

import (
	"errors"
	"fmt"
	"syscall"
	"time"
)

// Exit codes of an OpenClaw gateway.
const (
	codeDrained = 0
	codeFailed  = 1
	codeConfig  = 78
)

// ErrNotRunning: the gateway has no living process.
var ErrNotRunning = errors.New("the gateway has no running process")

// StartError says why a gateway could not be brought up.
type StartError struct {
	// Permanent: another try without a change of configuration ends the same.
	Permanent bool
	// Alive: a process that was ready once lives and is not ready.
	Alive    bool
	ExitCode int    // of the daemon when it ended; -1 when it did not or by signal
	Reason   string // what happened and why
	NextStep string // what an operator can do
	// LogTail holds the last lines of the daemon's output, cut to 512 bytes a
	// line, without control characters and without the token.
	LogTail []string
	Err     error
}

func (e *StartError) Error() string {
	s := e.Reason
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	if e.NextStep != "" {
		s += " (" + e.NextStep + ")"
	}
	return s
}

func (e *StartError) Unwrap() error { return e.Err }

// permanent is an error of configuration found before a process was started.
func permanent(next, format string, args ...any) *StartError {
	return &StartError{Permanent: true, ExitCode: -1, Reason: fmt.Sprintf(format, args...), NextStep: next}
}

// retryable is a failure of this host or moment.
func retryable(err error, next, format string, args ...any) *StartError {
	return &StartError{ExitCode: -1, Reason: fmt.Sprintf(format, args...), NextStep: next, Err: err}
}

// Exit is the end of one process.
type Exit struct {
	PID int
	// Code is the exit code; -1 when a signal ended the process, or when it was
	// adopted and its code could not be learnt.
	Code   int
	Signal syscall.Signal // 0: none, or not known
	At     time.Time
	// Reason tells the end in words.
	Reason string
	// Requested: Stop or Kill had been asked for.
	Requested bool
	known     bool
}

// ConfigError reports whether the daemon refused its configuration or its folder.
func (e Exit) ConfigError() bool { return e.known && e.Signal == 0 && e.Code == codeConfig }

func (e Exit) signalName() string {
	if e.Signal == 0 {
		return ""
	}
	return e.Signal.String()
}

// kind is the metric label of an exit: a closed set.
func (e Exit) kind() string {
	switch {
	case e.Requested:
		return "requested"
	case !e.known:
		return "unknown"
	case e.Signal != 0:
		return "signal"
	case e.Code == codeDrained:
		return "clean"
	case e.Code == codeConfig:
		return "config"
	default:
		return "failed"
	}
}

func reasonOf(e Exit, wasReady bool) string {
	while := "while starting"
	if wasReady {
		while = "while running"
	}
	switch {
	case !e.known:
		return "ended " + while + "; the exit code of an adopted process could not be learnt"
	case e.Signal != 0:
		return fmt.Sprintf("ended by signal %d (%s) %s", int(e.Signal), e.Signal, while)
	case e.Code == codeDrained:
		return "drained and ended by itself"
	case e.Code == codeConfig:
		return "refused its configuration, or its state folder is in use (exit code 78) " + while
	case e.Code == codeFailed && !wasReady:
		return "failed while starting (exit code 1): port taken, or too little CPU for its start"
	default:
		return fmt.Sprintf("ended with exit code %d %s", e.Code, while)
	}
}
