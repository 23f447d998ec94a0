package redis

import (
	"log/slog"
	"strings"
	"testing"
)

// TestUnreadableURLKeepsItsSecret: the words end in logs and terminals.
func TestUnreadableURLKeepsItsSecret(t *testing.T) {
	t.Parallel()
	for _, u := range []string{
		"redis://:s3cret@127.0.0.1:port/0",
		"redis://:s3cret/more@127.0.0.1:6379/0",
		"redis://:12/s3cret@127.0.0.1:6379/0",
		"redis://:s3cret%zz@127.0.0.1:6379/0",
		"rediss//:s3cret@127.0.0.1:6379",
		"s3cret://127.0.0.1:6379/0",
	} {
		for name, open := range map[string]func(Config) error{
			"Open":       func(c Config) error { _, err := Open(t.Context(), c); return err },
			"OpenSource": func(c Config) error { _, err := OpenSource(t.Context(), c); return err },
			"OpenTarget": func(c Config) error { _, err := OpenTarget(t.Context(), c); return err },
		} {
			err := open(Config{URL: u, Logger: slog.New(slog.DiscardHandler)})
			if err == nil || strings.Contains(err.Error(), "s3cret") || !strings.Contains(err.Error(), "redis://user:password@host") {
				t.Errorf("%s: %v, want how a URL is written, without what was given", name, err)
			}
		}
	}
}
