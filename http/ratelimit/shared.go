package ratelimit

import (
	"context"
	_ "embed" // the script
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	goredis "github.com/redis/go-redis/v9"
)

// DefaultPrefix is in front of a key's id on the Redis server. Ids of keys are
// random, so clusters that share a server do not meet.
const DefaultPrefix = "dash-limit:"

// probeKey is counted by probes; no key has this id.
const probeKey = "~probe"

//go:embed take.lua
var takeSource string

var takeScript = goredis.NewScript(takeSource)

// Config of a Shared. Client and Local are required.
type Config struct {
	// Client is the caller's, who closes it after Stop. It should not retry.
	Client *goredis.Client
	// Local counts while the server does not answer.
	Local *Local
	// Prefix is in front of all keys on the server; empty: DefaultPrefix.
	Prefix string
	// Timeout is what a request waits for the server at most; 0: 100 ms.
	Timeout time.Duration
	// Pause is how long the server is left alone after it has failed, and the
	// time between two probes; 0: 1 s.
	Pause time.Duration
	// Changed, which may be nil, is told why the server no longer counts, and
	// nil when it does again; at Start the first of both. Calls are in order.
	Changed func(why error)
	// Registerer may be nil.
	Registerer prometheus.Registerer
}

func (c Config) withDefaults() (Config, error) {
	if c.Client == nil || c.Local == nil {
		return c, errors.New("ratelimit: Client or Local is missing")
	}
	if c.Prefix == "" {
		c.Prefix = DefaultPrefix
	}
	if c.Timeout <= 0 {
		c.Timeout = 100 * time.Millisecond
	}
	if c.Pause <= 0 {
		c.Pause = time.Second
	}
	if c.Changed == nil {
		c.Changed = func(error) {}
	}
	return c, nil
}

// Shared has a Redis server count for all nodes. One failure takes the server
// out of the way of requests until a probe, which is none of them, has found
// it working.
type Shared struct {
	cfg   Config
	alone prometheus.Counter
	up    atomic.Bool

	mu     sync.Mutex // also of Changed's calls
	known  bool       // Changed was told once
	since  time.Time  // of the newest failure
	cancel context.CancelFunc
	run    sync.WaitGroup
}

// NewShared returns a Shared that asks nobody before Start.
func NewShared(cfg Config) (*Shared, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	s := &Shared{cfg: cfg, alone: prometheus.NewCounter(prometheus.CounterOpts{
		Name: "dash_ratelimit_alone_total", Help: "Requests of keys with a limit that this node judged alone because Redis did not answer.",
	})}
	return s, register(cfg.Registerer, s.alone)
}

// Start asks the server once, for at most five times Timeout, and begins to
// watch it. That it does not answer is no error. It is idempotent.
func (s *Shared) Start(ctx context.Context) {
	s.mu.Lock()
	if s.cancel != nil {
		s.mu.Unlock()
		return
	}
	ctx, s.cancel = context.WithCancel(context.WithoutCancel(ctx))
	s.mu.Unlock()
	s.probe(ctx)
	s.run.Go(func() { s.watch(ctx) })
}

// Stop ends the watching. It is idempotent.
func (s *Shared) Stop() {
	s.mu.Lock()
	cancel := s.cancel
	s.mu.Unlock()
	if cancel != nil {
		cancel()
	}
	s.run.Wait()
}

// Take implements Limiter.
func (s *Shared) Take(ctx context.Context, key string, perMinute int) Decision {
	p, now := paceOf(perMinute), s.cfg.Local.now()
	// Whoever was refused knows until when; the server is not asked in vain.
	if ahead := s.cfg.Local.ahead(key, now); ahead+p.every > p.room {
		return p.decision(false, min(ahead, p.room))
	}
	if !s.up.Load() {
		s.alone.Inc()
		return s.cfg.Local.Take(ctx, key, perMinute)
	}
	asked, cancel := context.WithTimeout(ctx, s.cfg.Timeout)
	defer cancel()
	ok, ahead, err := s.ask(asked, key, p)
	if err != nil {
		if ctx.Err() == nil { // else the caller is gone, which says nothing of the server
			s.set(err)
		}
		s.alone.Inc()
		return s.cfg.Local.Take(ctx, key, perMinute)
	}
	s.cfg.Local.learn(key, now+ahead)
	return p.decision(ok, ahead)
}

func (s *Shared) ask(ctx context.Context, key string, p pace) (ok bool, ahead int64, err error) {
	v, err := takeScript.Run(ctx, s.cfg.Client, []string{s.cfg.Prefix + key}, p.every, p.room).Int64Slice()
	switch {
	case err != nil:
		return false, 0, fmt.Errorf("count a request in Redis: %w", err)
	case len(v) != 2:
		return false, 0, fmt.Errorf("count a request in Redis: %d values answered, want 2", len(v))
	}
	return v[0] == 1, v[1], nil
}

// watch asks the server at every pause.
func (s *Shared) watch(ctx context.Context) {
	t := time.NewTicker(s.cfg.Pause)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
			s.probe(ctx)
		}
	}
}

// probe does all that a request does, unless the server has just failed. It
// may take longer: to connect takes a few round trips.
func (s *Shared) probe(ctx context.Context) {
	s.mu.Lock()
	rest := !s.up.Load() && time.Since(s.since) < s.cfg.Pause
	s.mu.Unlock()
	if rest {
		return
	}
	asked, cancel := context.WithTimeout(ctx, 5*s.cfg.Timeout)
	defer cancel()
	_, _, err := s.ask(asked, probeKey, paceOf(1_000_000))
	if ctx.Err() == nil {
		s.set(err)
	}
}

// set notes whether the server answers and tells of changes.
func (s *Shared) set(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil {
		s.since = time.Now()
	}
	if was := s.up.Swap(err == nil); s.known && was == (err == nil) {
		return
	}
	s.known = true
	s.cfg.Changed(err)
}
