package openclawtest

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/coder/websocket"
	"github.com/google/uuid"
)

// ErrStopped is returned by Start and Restart after Stop.
var ErrStopped = errors.New("gateway is stopped for good")

// Gateway is one simulated gateway. It is down until Start. Safe for concurrent use.
type Gateway struct {
	cfg Config

	mu      sync.Mutex // guards everything below and all runs, sessions and connections
	faults  Faults
	rng     *rand.Rand
	life    *life
	store   *store
	addr    string
	config  *configFile
	limit   int // lane limit now in force
	born    time.Time
	stopped bool
	warmUp  time.Duration  // least startup time of the next life
	jobs    sync.WaitGroup // goroutines that outlive one life: crash and revival on command
	quit    chan struct{}
	exit    chan int // managed: exit code once the gateway is down for good
}

// life is one process life of the gateway: what dies with a crash.
type life struct {
	boot    string
	started time.Time
	ln      net.Listener
	srv     *http.Server
	work    sync.WaitGroup // server, HTTP handlers, sockets
	conns   map[*conn]struct{}
	runs    map[string]*run // by run id: queued, running and finished
	order   []string        // finished run ids, oldest first
	kept    int             // bytes of their texts
	lane    []*run          // FIFO of runs that wait for a slot
	active  int             // slots in use
	open    int             // runs not finished
	depth   int             // ends of runs on the stack
	pings   sync.WaitGroup
	tick    *time.Timer
	waits   map[string]map[*wait]struct{} // agent.wait by run id
	nwaits  int
	ready   bool
	warm    *time.Timer
	drain   *drain
	suspend suspension
	dead    bool
	over    chan struct{} // closed when dead
}

// New checks cfg and makes a gateway that is down.
func New(cfg Config) (*Gateway, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("simulated gateway %q: %w", cfg.Name, err)
	}
	cfg = cfg.withDefaults()
	return &Gateway{
		cfg:    cfg,
		faults: cfg.Faults,
		rng:    rand.New(rand.NewPCG(cfg.Seed, hash64(cfg.Name))),
		addr:   cfg.Listen,
		config: newConfigFile(cfg),
		limit:  cfg.MaxConcurrent,
		quit:   make(chan struct{}),
	}, nil
}

// Start brings the gateway up: it listens when Start returns and is ready after
// StartupTime. It waits for a taken port until ctx ends. Start of a gateway that
// is up does nothing.
func (g *Gateway) Start(ctx context.Context) error {
	g.mu.Lock()
	up, stopped, addr := g.life != nil, g.stopped, g.addr
	g.mu.Unlock()
	if stopped {
		return ErrStopped
	}
	if up {
		return nil
	}
	ln, err := listen(ctx, addr)
	if err != nil {
		return err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.stopped || g.life != nil {
		_ = ln.Close()
		if g.stopped {
			return ErrStopped
		}
		return nil
	}
	return g.boot(ln)
}

// listen retries a port that something else holds for the moment.
func listen(ctx context.Context, addr string) (net.Listener, error) {
	for {
		ln, err := (&net.ListenConfig{}).Listen(ctx, "tcp", addr)
		if err == nil {
			return ln, nil
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("listen on %s: %w", addr, err)
		case <-time.After(20 * time.Millisecond):
		}
		if ctx.Err() != nil {
			return nil, fmt.Errorf("listen on %s: %w", addr, err)
		}
	}
}

// boot begins a life on ln. Callers hold g.mu.
func (g *Gateway) boot(ln net.Listener) error {
	if g.store == nil || g.cfg.StateDir != "" {
		st, err := openStore(g.cfg)
		if err != nil {
			_ = ln.Close()
			return err
		}
		g.store = st
	}
	g.addr = ln.Addr().String()
	l := &life{
		boot: uuid.NewString(), started: time.Now(), ln: ln,
		conns: map[*conn]struct{}{}, runs: map[string]*run{}, waits: map[string]map[*wait]struct{}{},
		over: make(chan struct{}),
	}
	if g.born.IsZero() {
		g.born = l.started
	}
	l.suspend.phase = phaseAccepting
	l.srv = &http.Server{
		Handler:           g.handler(l),
		ConnContext:       batchContext,
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       2 * time.Minute,
		ErrorLog:          slog.NewLogLogger(g.cfg.Logger.Handler(), slog.LevelWarn),
	}
	g.life = l
	l.work.Go(func() {
		// Serve ends with ErrServerClosed when the life ends; nothing else can be done about another error.
		if err := l.srv.Serve(batchListener{ln}); !errors.Is(err, http.ErrServerClosed) && !errors.Is(err, net.ErrClosed) {
			g.cfg.Logger.Error("simulated gateway stopped serving", "gateway", g.cfg.Name, "err", err)
		}
	})
	g.bootConfig(l)
	g.reclaim(l)
	wait := max(g.scaled(g.cfg.StartupTime), g.warmUp)
	g.warmUp = 0
	if wait > 0 {
		l.warm = g.after(l, wait, func() { g.becomeReady(l) })
	} else {
		g.becomeReady(l)
	}
	g.armTick(l)
	return nil
}

func (g *Gateway) becomeReady(l *life) {
	l.ready = true
	g.cfg.Logger.Info("[gateway] ready", "gateway", g.cfg.Name, "addr", g.addr, "boot", l.boot)
	g.scheduleReruns(l)
}

// after runs f under g.mu after d, unless the life ended before.
func (g *Gateway) after(l *life, d time.Duration, f func()) *time.Timer {
	return time.AfterFunc(d, func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		if !l.dead {
			f()
		}
	})
}

// Crash is kill -9: sockets end without a close frame, memory is lost, the
// durable state stays. It returns when the life's goroutines have ended. The
// gateway stays down until Start or Restart.
func (g *Gateway) Crash() {
	g.mu.Lock()
	l := g.life
	if l != nil {
		g.end(l)
	}
	g.mu.Unlock()
	if l != nil {
		l.finish()
	}
}

// end stops a life at once. Callers hold g.mu and call finish without it.
func (g *Gateway) end(l *life) {
	if l.dead {
		return
	}
	l.dead = true
	close(l.over)
	if g.life == l {
		g.life = nil
	}
	for _, r := range l.runs {
		r.stopTimer()
	}
	for _, w := range l.waits {
		for x := range w {
			x.stop()
		}
	}
	if d := l.drain; d != nil && d.timer != nil {
		d.timer.Stop() // the drain was overtaken by a crash
		d.timer = nil
		close(d.done)
	}
	for _, t := range []*time.Timer{l.tick, l.warm, l.suspend.lease} {
		if t != nil {
			t.Stop()
		}
	}
	_ = l.ln.Close()
	for c := range l.conns {
		c.cut()
	}
	g.store.crash()
	if g.cfg.StateDir != "" {
		g.store = nil
	}
}

func (l *life) finish() {
	_ = l.srv.Close()
	l.work.Wait()
	l.pings.Wait()
}

// Restart is Crash followed by Start on the same port and state.
func (g *Gateway) Restart(ctx context.Context) error {
	g.Crash()
	return g.Start(ctx)
}

// Stop ends the gateway for good, without waiting for runs, and returns when all
// its goroutines have ended. Stopping twice is harmless. Drain is the gentle way.
func (g *Gateway) Stop(context.Context) error {
	g.mu.Lock()
	if !g.stopped {
		g.stopped = true
		close(g.quit)
	}
	g.mu.Unlock()
	g.Crash()
	g.jobs.Wait()
	return nil
}

// Addr is the address it listens on; after the first Start it has the real port.
func (g *Gateway) Addr() string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.addr
}

// URL is the WebSocket address.
func (g *Gateway) URL() string { return "ws://" + g.Addr() + "/" }

// Token is the shared secret of the gateway.
func (g *Gateway) Token() string { return g.cfg.Token }

// Name is the gateway's name in the ground-truth log.
func (g *Gateway) Name() string { return g.cfg.Name }

// BootID is the id of the present life, empty when down.
func (g *Gateway) BootID() string {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.life == nil {
		return ""
	}
	return g.life.boot
}

// Stats is what a gateway holds at one moment.
type Stats struct {
	Up, Ready                bool
	Conns, Running, Waiting  int // sockets, runs with a slot, runs without
	Finished, Sessions, Text int // remembered run ids, sessions, bytes of transcripts
}

// Stats counts what the gateway holds now.
func (g *Gateway) Stats() Stats {
	g.mu.Lock()
	defer g.mu.Unlock()
	l := g.life
	if l == nil {
		return Stats{}
	}
	return Stats{
		Up: true, Ready: l.ready, Conns: len(l.conns), Running: l.active, Waiting: l.open - l.active,
		Finished: len(l.order), Sessions: len(g.store.sessions), Text: g.store.bytes,
	}
}

// armTick sends tick to every operator and pings every socket.
func (g *Gateway) armTick(l *life) {
	l.tick = g.after(l, g.tickInterval(), func() {
		frame := eventHead("tick", map[string]any{"ts": nowMs()})
		for c := range l.conns {
			if c.ready {
				c.sendEvent(frame)
				g.ping(l, c)
			}
		}
		g.armTick(l)
	})
}

func (g *Gateway) tickInterval() time.Duration {
	return g.scaledMin(30*time.Second, time.Second)
}

// ping wants a pong within 25 s (longer when scaled up), else the socket is cut.
func (g *Gateway) ping(l *life, c *conn) {
	if c.pingBusy {
		return
	}
	c.pingBusy = true
	l.pings.Go(func() {
		ctx, cancel := context.WithTimeout(context.Background(), g.scaledMin(25*time.Second, 25*time.Second))
		defer cancel()
		if err := c.ws.Ping(ctx); err != nil {
			_ = c.bc.Close()
		}
		g.mu.Lock()
		defer g.mu.Unlock()
		c.pingBusy = false
	})
}

func (g *Gateway) identity() (deviceID, publicKey string) {
	return deviceOf(g.store.seed.Public().(ed25519.PublicKey))
}

func (c *conn) refuse(id string, e *rpcError, code websocket.StatusCode, reason string) {
	c.send(errFrame(id, e))
	c.close(code, reason)
}

func hash64(s string) uint64 {
	h := uint64(14695981039346656037)
	for i := range len(s) {
		h = (h ^ uint64(s[i])) * 1099511628211
	}
	return h
}
