package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/dash-fleet/dash/cmd/internal/app"
	"github.com/dash-fleet/dash/cmd/internal/config"
	"github.com/dash-fleet/dash/cmd/internal/gcfloor"
	"github.com/dash-fleet/dash/cmd/internal/secrets"
	"github.com/dash-fleet/dash/cmd/internal/telemetry"
	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/messages/next"
	"github.com/dash-fleet/dash/persistence"
	"github.com/dash-fleet/dash/persistence/sqlite"
)

// bcryptCost of keys that a node makes; 0: the default. Only tests change it:
// under the race detector one hash takes seconds.
var bcryptCost int

// anewPause is the pause between two tries to start anew while the store is away.
const anewPause = time.Second

// serve runs a node until ctx ends, which is no failure, or until the node
// cannot go on. Nothing that it prints is waited for: a log that nobody reads
// must hold up neither the work nor the stop.
func serve(ctx context.Context, t *terminal, load loader) error {
	l, err := load()
	if err != nil {
		return err
	}
	ctx, hup, stop := signalsOf(ctx, t)
	defer stop()
	log, err := telemetry.NewLog(t.err, telemetry.LogOptions{Level: l.LogLevel, Format: l.LogFormat, Terminal: t.person})
	if err != nil {
		return err
	}
	defer log.Close(telemetry.LogPatience)
	out := telemetry.NewOutput(t.out)
	defer out.Close(telemetry.LogPatience)
	patient := *t
	patient.out, patient.err = out, log.Output
	for _, w := range l.Warnings {
		log.Warn("setting ignored", "reason", w)
	}
	gcfloor.Set(gcfloor.Floor)
	err = serveLives(ctx, &patient, l, &reloader{load: load, now: l, log: log}, hup)
	if err == nil {
		return nil
	}
	report(patient.err, err)
	return quietExit(exitCode(err))
}

// serveLives runs one life of the node after the other.
func serveLives(ctx context.Context, t *terminal, l *config.Loaded, r *reloader, hup <-chan os.Signal) error {
	for first := true; ; first = false {
		err := serveOnce(ctx, t, l, r, hup, first)
		if !app.StartsAnew(err) {
			return err
		}
		r.log.Warn("starting anew", "reason", err)
	}
}

// serveOnce is one life of the node; only the first one introduces itself.
func serveOnce(ctx context.Context, t *terminal, l *config.Loaded, r *reloader, hup <-chan os.Signal, first bool) error {
	logger := r.log.Logger
	node, err := app.Start(ctx, l.Config, app.Deps{Logger: logger, Registry: newRegistry(r.log), Version: version, BcryptCost: bcryptCost})
	if err != nil {
		if ctx.Err() != nil {
			return nil // stopped while starting
		}
		if !first && errors.Is(err, persistence.ErrUnavailable) {
			logger.Warn("the store is away; trying again", "err", err)
			select {
			case <-ctx.Done():
				return nil
			case <-time.After(anewPause):
				return app.ErrStartAnew
			}
		}
		return startFailure(l, err)
	}
	key, keyFile := node.AdminKey()
	forget, err := announce(t, localNode{URL: node.URL(), KeyFile: keyFile, PID: os.Getpid()})
	if err != nil {
		logger.Warn("clients on this machine need DASH_API_KEY", "err", err)
	}
	in := introduction{l: l, url: node.URL(), public: node.PublicURL(), data: node.Data(), standby: node.Standby(), keyFile: keyFile}
	if t.screen || l.Dev { // of a file or a journal others may be readers
		in.key = key.Reveal()
	}
	if !first {
		logger.Info("serving again", "url", node.URL())
	} else if err := write(t, in.banner(t.self())); err != nil {
		return errors.Join(err, forget(), node.Stop()) // an Output takes everything
	}
	fatal := await(ctx, node, r, hup)
	// First: from now on nobody is to find a key for this port.
	return errors.Join(fatal, forget(), node.Stop())
}

// await runs until the node is to stop, which is no failure, or cannot go on.
func await(ctx context.Context, node *app.App, r *reloader, hup <-chan os.Signal) error {
	for {
		select {
		case <-ctx.Done():
			r.log.Info("stopping", "reason", context.Cause(ctx))
			return nil
		case <-hup:
			r.reload(node.Reload)
		case fatal := <-node.Fatal():
			if app.StartsAnew(fatal) {
				return fatal
			}
			r.log.Error("the node cannot continue", "err", fatal)
			var sealing *secrets.Error
			if errors.As(fatal, &sealing) {
				return &failure{code: exitFailed, what: "the node stopped: " + sealing.Error(), next: sealing.NextStep(), err: fatal}
			}
			return &failure{code: exitFailed, what: "the node stopped: " + fatal.Error(), next: next.LookAtLogThenStart}
		}
	}
}

// newRegistry is that of one life of the node; the log lives longer.
func newRegistry(log *telemetry.Log) *prometheus.Registry {
	r := telemetry.NewRegistry(version)
	r.MustRegister(log.Collector())
	return r
}

func startFailure(l *config.Loaded, err error) error {
	var twin *app.TwinError
	var lost *sqlite.LostError
	var damaged *sqlite.DamagedError
	var listen *net.OpError
	var told interface {
		error
		NextStep() string
	}
	switch {
	case errors.As(err, &twin):
		return &failure{code: exitUnavailable, what: twin.Error(), next: twin.NextStep(), err: err}
	case errors.As(err, &told):
		return &failure{code: exitFailed, what: told.Error(), next: told.NextStep(), err: err}
	case errors.As(err, &lost):
		return &failure{code: exitFailed, what: lost.Error(), next: lost.Next(), err: err}
	case errors.As(err, &damaged):
		return &failure{code: exitFailed, what: fmt.Sprintf("the store in %s cannot be used: %v", l.Data, damaged),
			next: next.RestoreElsewhere, err: err}
	case errors.Is(err, syscall.EADDRINUSE):
		return &failure{code: exitUnavailable, what: l.Listen + " is in use by another process", next: next.StopOrOtherListen, err: err}
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return &failure{code: exitFailed, what: l.Listen + " is no address of this host", next: next.ListenHere, err: err}
	case errors.Is(err, os.ErrPermission) && errors.As(err, &listen) && listen.Op == "listen":
		return &failure{code: exitFailed, what: "not permitted to listen on " + l.Listen, next: next.AllowLowPort, err: err}
	case errors.Is(err, os.ErrPermission):
		return &failure{code: exitFailed, what: err.Error(), next: next.GiveWritableData, err: err}
	}
	return storeError(err)
}

// introduction is what a node tells a person at its first start.
type introduction struct {
	l         *config.Loaded
	url, data string
	public    string // where clients reach it, often url
	standby   string // why it only stands by; empty: it works
	key       string // only at the start that made it, and only for a screen or a playground
	keyFile   string
}

// banner tells a stranger what to do next.
func (in introduction) banner(self string) string {
	var b strings.Builder
	if in.standby == "" {
		fmt.Fprintf(&b, "\nDash %s is ready at %s\n\n", version, in.url)
	} else {
		fmt.Fprintf(&b, "\nDash %s answers at %s, and takes no tasks yet:\n%s.\nIt takes over as soon as it can.\n\n", version, in.url, in.standby)
	}
	fmt.Fprintf(&b, "  API       %s/api/v1   documentation: %s/api/v1/docs\n", in.public, in.public)
	if in.l.Store != config.EngineSQLite {
		fmt.Fprintf(&b, "  store     %s\n", storePlace(in.l))
	}
	data := in.data
	if in.l.Data == "" {
		data += "   (temporary, removed when Dash stops)"
	}
	fmt.Fprintf(&b, "  data      %s\n", data)
	if in.l.SimGateways > 0 {
		fmt.Fprintf(&b, "  gateways  %d simulated\n", in.l.SimGateways)
	}
	bearer := "$(cat " + shellWord(in.keyFile) + ")"
	switch {
	case in.key != "":
		fmt.Fprintf(&b, "  API key   %s   (shown once; also in %s)\n", in.key, in.keyFile)
		bearer = in.key
	case missing(in.keyFile):
		fmt.Fprint(&b, "  API key   as before: the store had keys already, so no new one was made; put one into DASH_API_KEY\n")
		bearer = "$DASH_API_KEY"
	default:
		fmt.Fprintf(&b, "  API key   in %s\n", in.keyFile)
	}
	if in.standby == "" {
		fmt.Fprintf(&b, "\nSubmit a task, in another terminal:\n\n  curl -s %s/api/v1/tasks -H \"Authorization: Bearer %s\" -H 'Content-Type: application/json' -d '{\"priority\":\"high\",\"input\":{\"message\":\"Say hello.\"}}'\n", in.url, bearer)
		if in.url != defaultURL { // which the command line asks by itself
			self = "DASH_URL=" + in.url + " " + self
		}
		fmt.Fprintf(&b, "\nThen:\n\n  %s task list\n  %s task submit --message 'Say hello.' --wait\n  curl -sN %s/api/v1/events -H \"Authorization: Bearer %s\"\n",
			self, self, in.url, bearer)
	}
	b.WriteString("\nCtrl-C stops Dash.\n\n")
	return b.String()
}

// storePlace names the servers of a store, without users and passwords.
func storePlace(l *config.Loaded) string {
	place := l.Store
	for _, secret := range []messages.Secret{l.RedisURL, l.PostgresURL} {
		u, err := url.Parse(secret.Reveal())
		if err == nil && u.Host != "" && (secret == l.PostgresURL || l.Store == config.EngineRedis) {
			place += ", " + u.Scheme + "://" + u.Host + u.Path
		}
	}
	return place
}

// shellWord makes a text one word of a shell.
func shellWord(s string) string {
	if strings.Trim(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/._-") == "" {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
