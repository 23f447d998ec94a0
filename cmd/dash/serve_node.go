package main

import (
	"context"

	"github.com/dash-fleet/dash/cmd/internal/config"
	"github.com/dash-fleet/dash/cmd/internal/telemetry"
	"github.com/dash-fleet/dash/messages"
)

// serve runs a node until ctx ends.
func serve(_ context.Context, t *terminal, l *config.Loaded) error {
	logger, err := telemetry.NewLogger(t.err, telemetry.LogOptions{Level: l.LogLevel, Format: l.LogFormat, Terminal: t.person})
	if err != nil {
		return err
	}
	for _, w := range l.Warnings {
		logger.Warn("setting ignored", "reason", w)
	}
	return &messages.Error{Code: messages.CodeUnavailable, Message: "this build has no node yet", NextStep: "build a later commit"}
}
