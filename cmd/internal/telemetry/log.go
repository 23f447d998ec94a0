package telemetry

import (
	"fmt"
	"io"
	"log/slog"
	"strings"
	"time"
)

// LogOptions say how a process logs.
type LogOptions struct {
	Level  string // debug, info, warn, error; empty is info
	Format string // text or json; auto or empty: text when Terminal, else json
	// Terminal says that a person reads the output.
	Terminal bool
}

// Log is a logger in front of an Output: logging never waits for a reader.
type Log struct {
	*slog.Logger
	*Output
	level slog.LevelVar
}

// NewLog returns a logger that writes to w, one line per record, and masks
// secrets by key, by type and by shape (see Redact). An unknown level or
// format is an error. The caller closes it.
func NewLog(w io.Writer, o LogOptions) (*Log, error) {
	l := &Log{}
	if err := l.SetLevel(o.Level); err != nil {
		return nil, err
	}
	h, err := handler(o)
	if err != nil {
		return nil, err
	}
	l.Output = NewOutput(w)
	l.told = func(w io.Writer, lines uint64) {
		slog.New(h(w, nil)).Warn("lines are missing here: the log was not read in time", slog.Uint64("lines", lines))
	}
	l.Logger = slog.New(Redact(h(l.Output, &l.level)))
	return l, nil
}

// SetLevel changes the least level that is logged, at once. Empty is info.
func (l *Log) SetLevel(name string) error {
	var level slog.Level
	if name != "" {
		if err := level.UnmarshalText([]byte(name)); err != nil {
			return fmt.Errorf("log level %q: use debug, info, warn or error", name)
		}
	}
	l.level.Set(level)
	return nil
}

// handler returns what makes a handler of the format.
func handler(o LogOptions) (func(io.Writer, slog.Leveler) slog.Handler, error) {
	format := strings.ToLower(o.Format)
	if format == "" || format == "auto" {
		format = "json"
		if o.Terminal {
			format = "text"
		}
	}
	switch format {
	case "text":
		return func(w io.Writer, l slog.Leveler) slog.Handler {
			return slog.NewTextHandler(w, &slog.HandlerOptions{Level: l})
		}, nil
	case "json":
		return func(w io.Writer, l slog.Leveler) slog.Handler {
			return slog.NewJSONHandler(w, &slog.HandlerOptions{Level: l})
		}, nil
	}
	return nil, fmt.Errorf("log format %q: use auto, text or json", o.Format)
}

// LogPatience is how long the end of a process waits for the reader of its log.
const LogPatience = 500 * time.Millisecond
