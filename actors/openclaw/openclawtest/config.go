package openclawtest

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"time"
)

// Bounds of one gateway. What is dropped when a bound is reached is said at the
// Config field that sets it.
const (
	defaultVersion       = "2026.9.6"
	defaultMaxConcurrent = 8
	defaultMaxSessions   = 500
	defaultMaxFinished   = 5000
	defaultMaxEntries    = 400
	defaultReportBytes   = 12_000
	defaultMaxTranscript = 16 << 20
	maxTaskRows          = 200
	maxQueuedRuns        = 10_000
	maxWaits             = 10_000
	maxSessionKey        = 512
	maxPayload           = 26_214_400
	maxBuffered          = 52_428_800
	preAuthLimit         = 64 << 10
)

// Config describes one simulated gateway. Zero values mean what the field says.
type Config struct {
	// Name is the gateway's name in the ground-truth log; default "sim".
	Name string
	// Listen is a loopback address; default "127.0.0.1:0". The port chosen at
	// the first Start is kept over crashes and restarts.
	Listen string
	// Token is the shared secret; required.
	Token string
	// RunTime is how long a model call takes without a directive; not scaled.
	RunTime time.Duration
	// Chunks cuts replies into this many pieces spread over RunTime, so that a
	// run streams; 0 or 1 sends the reply whole.
	Chunks int
	// PrepareTime passes between a run's start and its model call; not scaled.
	PrepareTime time.Duration
	// StartupTime is how long the port answers "starting" after each start; scaled.
	StartupTime time.Duration
	// MaxConcurrent is the limit of lane "main"; default 8.
	MaxConcurrent int
	// StateDir keeps what survives a crash; empty keeps it in memory, which
	// survives Crash and Restart of the same Gateway value only.
	StateDir string
	// TimeScale multiplies every time of the protocol (retries, re-run delay,
	// leases, ticks, drain budget); 0 means 1. Times given by a client
	// (timeouts, directives) and RunTime are not scaled.
	TimeScale float64
	// Seed makes the fault dice repeatable for a given order of requests.
	Seed uint64
	// Version is what hello-ok reports; default "2026.9.6". One of 2026.8 names
	// active runs in list rows and not in histories, and its re-run after a crash
	// takes the interrupted text and its key out of the history.
	Version string
	// ReportBytes is the size of systemPromptReport in a final answer; 0 means
	// 12,000 as a real gateway, negative leaves it out.
	ReportBytes int
	// MaxSessions bounds sessions kept; beyond it the idle session not used for
	// longest is forgotten, transcript included. Default 500.
	MaxSessions int
	// MaxFinished bounds finished run ids that are remembered; beyond it, and
	// after 5 minutes (longer when scaled up), the oldest is forgotten and would
	// run again. Default 5000.
	MaxFinished int
	// MaxEntries bounds a transcript; beyond it its oldest entries go. Default 400.
	MaxEntries int
	// MaxTranscriptBytes bounds the text of all transcripts, policy as
	// MaxSessions, and that of all remembered results, policy as MaxFinished.
	// Default 16 MiB.
	MaxTranscriptBytes int
	// ConfigPath is the configuration file, which the gateway writes when it is
	// missing and watches; empty: the configuration is in memory alone.
	ConfigPath string
	// Faults are the faults in force from the start.
	Faults Faults
	// Log receives the ground truth; nil discards it.
	Log *Log
	// Logger receives what an operator would read; nil discards it.
	Logger *slog.Logger
}

// Validate reports the first field that cannot be used.
func (c Config) Validate() error {
	if c.Token == "" {
		return errors.New("token is empty: a gateway refuses clients without a shared token; set Config.Token")
	}
	if c.Listen != "" {
		if _, _, err := net.SplitHostPort(c.Listen); err != nil {
			return fmt.Errorf("listen address %q: %w; use host:port", c.Listen, err)
		}
	}
	switch {
	case c.TimeScale < 0 || c.TimeScale > 1000:
		return fmt.Errorf("time scale %g is outside 0..1000", c.TimeScale)
	case c.RunTime < 0, c.PrepareTime < 0, c.StartupTime < 0:
		return errors.New("run, prepare and startup time must not be negative")
	case c.MaxConcurrent < 0 || c.MaxConcurrent > 100_000:
		return fmt.Errorf("max concurrent %d is outside 0..100000", c.MaxConcurrent)
	case c.MaxSessions < 0, c.MaxFinished < 0, c.MaxEntries < 0, c.MaxTranscriptBytes < 0, c.Chunks < 0:
		return errors.New("bounds must not be negative")
	}
	return c.Faults.Validate()
}

func (c Config) withDefaults() Config {
	setDefault(&c.Name, "sim")
	setDefault(&c.Listen, "127.0.0.1:0")
	setDefault(&c.Version, defaultVersion)
	setDefault(&c.TimeScale, 1)
	setDefault(&c.MaxConcurrent, defaultMaxConcurrent)
	setDefault(&c.MaxSessions, defaultMaxSessions)
	setDefault(&c.MaxFinished, defaultMaxFinished)
	setDefault(&c.MaxEntries, defaultMaxEntries)
	setDefault(&c.MaxTranscriptBytes, defaultMaxTranscript)
	setDefault(&c.ReportBytes, defaultReportBytes)
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c
}

func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// scaled turns a time of the protocol into this gateway's time.
func (g *Gateway) scaled(d time.Duration) time.Duration {
	return time.Duration(float64(d) * g.cfg.TimeScale)
}

// scaledMin is scaled with a floor, for times that guard a link: scaled below
// the floor they would cut healthy clients on a busy machine.
func (g *Gateway) scaledMin(d, floor time.Duration) time.Duration {
	return max(g.scaled(d), min(d, floor))
}
