package launcher

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/messages/next"
)

// Config of a launcher. The zero value of a field means its default.
type Config struct {
	// Dir is the node's data folder, absolute; gateways live in Dir/gateways/<id>.
	Dir string
	// Command starts a gateway that names no command of its own: an absolute
	// program and all of its arguments. openclaw given alone gets "gateway run".
	Command []string
	// Commands are those that a gateway may name in place of Command, each whole.
	Commands [][]string
	// Reserved are paths besides Dir that no gateway's folder may be in or above.
	Reserved []string
	// ProbeNames looks for openclaws, openclaw and openclawd on PATH when there
	// is no command. What was found is logged with its absolute path.
	ProbeNames bool
	// StartupTimeout is how long a daemon may take from its start until it is
	// ready. Default 3 min (a boot took 17-22 s alone, 73 s on a busy machine).
	StartupTimeout time.Duration
	// ProbeInterval is the longest pause between two looks at a daemon that
	// starts, never more than 1 s. Pauses begin at 50 ms and double.
	ProbeInterval time.Duration
	// BootSlots is how many daemons may boot at once: one boot costs 11-15
	// CPU-seconds and starved boots fail. Default one per 2 cores.
	BootSlots int
	// LogLimit bounds each log file of a gateway in bytes; one older file of at
	// most that size is kept. Default 16 MiB.
	LogLimit   int64
	Logger     *slog.Logger
	Registerer prometheus.Registerer
}

// Spec is one managed gateway as it is wanted.
type Spec struct {
	ID string
	// Managed holds the command, port, folder, environment and model
	// configuration of this gateway.
	Managed messages.Managed
	// Token is the shared secret; empty: the one of the last start, else a
	// random one. It takes effect at the next start of the daemon.
	Token messages.Secret
	// MaxConcurrency becomes agents.defaults.maxConcurrent. Default 8.
	MaxConcurrency int
}

// Endpoint is a daemon that was ready a moment ago.
type Endpoint struct {
	URL string // ws://127.0.0.1:<port>/
	// Token is the one this process was started with.
	Token messages.Secret
	PID   int
	// Adopted: the process was started by an earlier Dash process.
	Adopted bool
	// Stale: the process runs with an older command, environment,
	// configuration or token than the Spec asks for; Rewrite or a restart
	// applies it.
	Stale bool
}

// Launcher manages the daemons of one node. Its methods may be called from any
// goroutine; those for one gateway take turns, and Stop and Kill interrupt an
// Ensure that waits.
type Launcher struct {
	cfg     Config
	log     *slog.Logger
	metrics *metrics
	client  *http.Client
	slots   chan struct{}
	ctx     context.Context // ends with Close
	cancel  context.CancelFunc
	wg      sync.WaitGroup
	ports   portRange
	// afterSpawn runs between the start of a process and its record; tests die there.
	afterSpawn func()

	mu       sync.Mutex
	closed   bool
	gateways map[string]*gateway
}

// ErrClosed: Close was called.
var ErrClosed = errors.New("launcher closed")

// New returns a launcher over cfg.Dir, which it makes when missing.
func New(cfg Config) (*Launcher, error) {
	if err := supported(); err != nil {
		return nil, err
	}
	cfg = cfg.withDefaults()
	if !filepath.IsAbs(cfg.Dir) {
		return nil, &messages.Error{Code: messages.CodeInvalid, Message: fmt.Sprintf("the data folder %q is not an absolute path", cfg.Dir), NextStep: next.FullPath}
	}
	if len(cfg.Command) > 0 {
		if _, err := checkCommand(cfg.Command); err != nil {
			return nil, err
		}
	}
	for _, name := range []string{"gateways", compileCache} {
		if err := os.MkdirAll(filepath.Join(cfg.Dir, name), 0o700); err != nil {
			return nil, fmt.Errorf("make the folder of managed gateways: %w", err)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	l := &Launcher{
		cfg: cfg, log: cfg.Logger, metrics: newMetrics(cfg.Registerer), client: newProbeClient(),
		slots: make(chan struct{}, cfg.BootSlots), ctx: ctx, cancel: cancel,
		ports: portRange{firstPort, lastPort}, afterSpawn: func() {}, gateways: map[string]*gateway{},
	}
	l.wg.Go(l.trimLogs)
	return l, nil
}

func (c Config) withDefaults() Config {
	if c.StartupTimeout <= 0 {
		c.StartupTimeout = 3 * time.Minute
	}
	if c.ProbeInterval <= 0 || c.ProbeInterval > time.Second {
		c.ProbeInterval = time.Second
	}
	if c.BootSlots <= 0 {
		c.BootSlots = max(1, runtime.NumCPU()/2)
	}
	if c.LogLimit <= 0 {
		c.LogLimit = 16 << 20
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c
}

// Close stops watching and frees the folders' locks. It waits for the
// launcher's goroutines and leaves all daemons running.
func (l *Launcher) Close() {
	l.mu.Lock()
	l.closed = true
	all := make([]*gateway, 0, len(l.gateways))
	for _, g := range l.gateways {
		all = append(all, g)
	}
	l.mu.Unlock()
	l.cancel()
	for _, g := range all {
		g.op <- struct{}{} // an operation under way ends with l.ctx
		g.release()
		<-g.op
	}
	l.wg.Wait()
	l.client.CloseIdleConnections()
}

// lookup returns the gateway's state, making it when add is set.
func (l *Launcher) lookup(id string, add bool) (*gateway, error) {
	if err := messages.CheckID(id); err != nil {
		return nil, &messages.Error{Code: messages.CodeInvalid, Message: fmt.Sprintf("gateway id %q: %v", id, err), NextStep: next.OtherID}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil, ErrClosed
	}
	g := l.gateways[id]
	if g == nil && add {
		g = newGateway(id)
		l.gateways[id] = g
	}
	return g, nil
}
