package telemetry

import (
	"fmt"
	"io"
	"log/slog"
	"strings"
)

// LogOptions say how a process logs.
type LogOptions struct {
	Level  string // debug, info, warn, error; empty is info
	Format string // text or json; auto or empty: text when Terminal, else json
	// Terminal says that a person reads the output.
	Terminal bool
}

// NewLogger returns a logger that writes to w, one line per record, and masks
// secrets by key, by type and by shape (see Redact). An unknown level or
// format is an error.
func NewLogger(w io.Writer, o LogOptions) (*slog.Logger, error) {
	var level slog.Level
	if o.Level != "" {
		if err := level.UnmarshalText([]byte(o.Level)); err != nil {
			return nil, fmt.Errorf("log level %q: use debug, info, warn or error", o.Level)
		}
	}
	opts := &slog.HandlerOptions{Level: level}
	format := strings.ToLower(o.Format)
	if format == "" || format == "auto" {
		format = "json"
		if o.Terminal {
			format = "text"
		}
	}
	switch format {
	case "text":
		return slog.New(Redact(slog.NewTextHandler(w, opts))), nil
	case "json":
		return slog.New(Redact(slog.NewJSONHandler(w, opts))), nil
	}
	return nil, fmt.Errorf("log format %q: use auto, text or json", o.Format)
}
