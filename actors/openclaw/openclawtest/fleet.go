package openclawtest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"strconv"
	"time"
)

// maxFleet bounds the gateways of one process.
const maxFleet = 1000

// SimConfig describes gateways that serve side by side in one process.
type SimConfig struct {
	// Listen is the address of gateway 0; gateway i listens on port+i. Port 0
	// gives each gateway a free port. Default "127.0.0.1:19000".
	Listen string
	// Gateways is how many; default 1, at most 1000.
	Gateways int
	// NamePrefix names gateway i "<prefix>-<i>" in the log; default "sim".
	NamePrefix string
	// Token is the shared secret of all of them; required.
	Token string
	// RunTime, Chunks, MaxConcurrent, StartupTime, TimeScale, Seed, Version,
	// ReportBytes and Faults are as in Config; gateway i uses Seed+i.
	RunTime       time.Duration
	Chunks        int
	MaxConcurrent int
	StartupTime   time.Duration
	TimeScale     float64
	Seed          uint64
	Version       string
	ReportBytes   int
	Faults        Faults
	// LogFile is the ground-truth log, appended to; empty writes none.
	LogFile string
	// StateDir holds one folder per gateway; empty keeps state in memory.
	StateDir string
}

// Fleet is a set of simulated gateways with one log.
type Fleet struct {
	gateways []*Gateway
	log      *Log
}

// NewFleet checks cfg and opens its log. The gateways are down until Start;
// Stop must be called in the end.
func NewFleet(cfg SimConfig, logger *slog.Logger) (*Fleet, error) {
	setDefault(&cfg.Listen, "127.0.0.1:19000")
	setDefault(&cfg.Gateways, 1)
	setDefault(&cfg.NamePrefix, "sim")
	host, port, err := splitPort(cfg.Listen)
	if err != nil {
		return nil, err
	}
	if cfg.Gateways < 1 || cfg.Gateways > maxFleet {
		return nil, fmt.Errorf("gateways %d is outside 1..%d", cfg.Gateways, maxFleet)
	}
	if port+cfg.Gateways > 65536 {
		return nil, fmt.Errorf("listen %s: %d gateways need ports up to %d; choose a lower first port", cfg.Listen, cfg.Gateways, port+cfg.Gateways-1)
	}
	f := &Fleet{}
	if cfg.LogFile != "" {
		if f.log, err = OpenLog(cfg.LogFile); err != nil {
			return nil, err
		}
	}
	for i := range cfg.Gateways {
		g, err := New(cfg.gateway(i, host, port, f.log, logger))
		if err != nil {
			return nil, errors.Join(err, f.closeLog())
		}
		f.gateways = append(f.gateways, g)
	}
	return f, nil
}

func (cfg SimConfig) gateway(i int, host string, port int, log *Log, logger *slog.Logger) Config {
	name := fmt.Sprintf("%s-%d", cfg.NamePrefix, i)
	if port > 0 {
		port += i
	}
	c := Config{
		Name: name, Listen: net.JoinHostPort(host, strconv.Itoa(port)), Token: cfg.Token, RunTime: cfg.RunTime, Chunks: cfg.Chunks,
		StartupTime: cfg.StartupTime, MaxConcurrent: cfg.MaxConcurrent, TimeScale: cfg.TimeScale, Seed: cfg.Seed + uint64(i),
		Version: cfg.Version, ReportBytes: cfg.ReportBytes, Faults: cfg.Faults, Log: log, Logger: logger,
	}
	if cfg.StateDir != "" {
		c.StateDir = filepath.Join(cfg.StateDir, name)
	}
	return c
}

func splitPort(addr string) (string, int, error) {
	host, text, err := net.SplitHostPort(addr)
	if err != nil {
		return "", 0, fmt.Errorf("listen address %q: %w; use host:port", addr, err)
	}
	port, err := strconv.Atoi(text)
	if err != nil || port < 0 || port > 65535 {
		return "", 0, fmt.Errorf("listen address %q: port must be 0..65535", addr)
	}
	return host, port, nil
}

// Start brings every gateway up or none.
func (f *Fleet) Start(ctx context.Context) error {
	for _, g := range f.gateways {
		if err := g.Start(ctx); err != nil {
			return errors.Join(fmt.Errorf("start %s: %w", g.Name(), err), f.Stop(ctx))
		}
	}
	return nil
}

// Stop ends every gateway for good and closes the log.
func (f *Fleet) Stop(ctx context.Context) error {
	var errs []error
	for _, g := range f.gateways {
		errs = append(errs, g.Stop(ctx))
	}
	return errors.Join(append(errs, f.closeLog())...)
}

func (f *Fleet) closeLog() error {
	if f.log == nil {
		return nil
	}
	return f.log.Close()
}

// Gateways are the members in order.
func (f *Fleet) Gateways() []*Gateway { return f.gateways }

// RunSim serves cfg's gateways until ctx ends, which is no error. It fails when
// a port cannot be had within 5 s or when the ground-truth log cannot be written.
func RunSim(ctx context.Context, cfg SimConfig, logger *slog.Logger) error {
	if logger == nil {
		logger = slog.New(slog.DiscardHandler)
	}
	f, err := NewFleet(cfg, logger)
	if err != nil {
		return err
	}
	starting, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	if err := f.Start(starting); err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return err
	}
	logger.Info("simulated gateways ready", "gateways", len(f.gateways), "first", f.gateways[0].URL(), "last", f.gateways[len(f.gateways)-1].URL())
	var broken <-chan struct{}
	if f.log != nil {
		broken = f.log.Failed()
	}
	select {
	case <-ctx.Done():
		return f.Stop(context.Background())
	case <-broken:
		return errors.Join(f.log.Err(), f.Stop(context.Background()))
	}
}
