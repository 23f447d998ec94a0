package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"

	"github.com/dash-fleet/dash/cmd/internal/app"
	"github.com/dash-fleet/dash/cmd/internal/config"
	"github.com/dash-fleet/dash/cmd/internal/telemetry"
)

// startTimeout bounds the start of a node; reading back 100,000 queued tasks
// takes less than 5 s of it.
const startTimeout = 2 * time.Minute

// serve runs a node until ctx ends.
func serve(ctx context.Context, t *terminal, l *config.Loaded) error {
	logger, err := telemetry.NewLogger(t.err, telemetry.LogOptions{Level: l.LogLevel, Format: l.LogFormat, Terminal: t.person})
	if err != nil {
		return err
	}
	for _, w := range l.Warnings {
		logger.Warn("setting ignored", slog.String("reason", w))
	}
	startCtx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	node, err := app.Start(startCtx, l.Config, app.Deps{Logger: logger, Registry: telemetry.NewRegistry(version), Version: version})
	if err != nil {
		return err
	}
	greet(t, node, l.Config)
	var fatal error
	select {
	case <-ctx.Done():
		logger.Info("stopping")
	case fatal = <-node.Fatal():
		logger.Error("the node cannot go on and ends; its next start takes everything up again", slog.Any("err", fatal))
	}
	return errors.Join(fatal, node.Stop())
}

// greet tells a person what to do next. It is talk, so it goes to stderr.
func greet(t *terminal, node *app.App, cfg config.Config) {
	key, file := node.AdminKey()
	w := t.err
	say(w, "Dash %s serves %s (data in %s)\n", version, node.URL(), node.Data())
	switch {
	case key.Empty():
		say(w, "The admin key is in %s\n", file)
		return
	case !cfg.Dev:
		say(w, "Made the first admin key; it is in %s and is shown only this once:\n\n  %s\n", file, key.Reveal())
		return
	}
	say(w, `
Admin API key (shown once, also in %[1]s):

  export DASH_URL=%[2]s DASH_API_KEY=%[3]s

Submit a task and wait for its result:

  curl -sS %[2]s/api/v1/tasks -H 'Authorization: Bearer %[3]s' -H 'Content-Type: application/json' \
    -d '{"priority":"high","input":{"message":"hello"}}'

Then look at it, or send another one and watch it:

  %[4]s task list
  %[4]s task submit --priority critical --message "hello again" --wait

Ctrl-C stops Dash.
`, file, node.URL(), key.Reveal(), t.self())
}

// say writes to a person; there is nowhere to report that nobody listens.
func say(w io.Writer, format string, args ...any) { _, _ = fmt.Fprintf(w, format, args...) }
