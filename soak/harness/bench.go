package harness

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/dash-fleet/dash/http/api"
	"github.com/dash-fleet/dash/persistence/testserver"
)

// Config of a Bench.
type Config struct {
	// Binary is the dash binary.
	Binary string
	// Dir receives data, logs and the simulators' truth; it must exist.
	Dir string
	// Data is the data folder of Dash; default Dir/data.
	Data string
	// Gateways is how many are simulated, default 3, Slots how many runs each
	// of them executes at once, default 8, RunTime how long a run takes.
	Gateways, Slots int
	RunTime         time.Duration
	// KeepState lets the simulators keep over a crash what real gateways keep.
	KeepState bool
	// TimeScale scales the times of the gateway protocol; 0 means 1.
	TimeScale float64
	// OpenClaw is the release that the simulators play, empty: the newest known.
	OpenClaw string
	// Args are further arguments of dash serve.
	Args []string
	// Engine that stores Dash's data, default SQLite. The others get private
	// servers of the bench.
	Engine string
	// Replica gives PostgreSQL a synchronous streaming replica.
	Replica bool
	// Standby adds a second node, with a data folder of its own, on the same
	// store. The client then talks to whichever of the two works.
	Standby bool
}

// Bench is one Dash node with its simulated gateways.
type Bench struct {
	cfg     Config
	ports   io.Closer // claim on the ports of Dash and the simulators
	Servers *Servers
	Dash    *Dash
	Standby *Dash // nil unless it is configured
	Sim     *Sim
	Client  *api.Client
	History *Recorder
	Watcher *Watcher
}

// bootPatience is how long a process may take to answer; machines are busy.
const bootPatience = 60 * time.Second

// NewBench starts the simulators and Dash, registers the gateways and waits
// until all of them are ready. Close ends everything.
func NewBench(ctx context.Context, cfg Config) (*Bench, error) {
	setDefault(&cfg.Gateways, 3)
	setDefault(&cfg.Slots, 8)
	setDefault(&cfg.TimeScale, 1)
	setDefault(&cfg.Engine, SQLite)
	setDefault(&cfg.Data, filepath.Join(cfg.Dir, "data"))
	if err := os.MkdirAll(cfg.Data, 0o700); err != nil {
		return nil, fmt.Errorf("make data folder: %w", err)
	}
	b := &Bench{cfg: cfg, History: newRecorder()}
	if err := b.open(ctx); err != nil {
		return nil, errors.Join(err, b.Close())
	}
	return b, nil
}

func setDefault[T comparable](p *T, v T) {
	var zero T
	if *p == zero {
		*p = v
	}
}

func (b *Bench) open(ctx context.Context) error {
	ports, claim, err := testserver.FreePorts(b.cfg.Gateways + 2)
	if err != nil {
		return err
	}
	b.ports = claim
	b.Sim = &Sim{cfg: b.cfg, base: ports + 2, log: b.Truth()}
	if err := b.Sim.Start(ctx); err != nil {
		return err
	}
	if b.Servers, err = startServers(ctx, b.cfg.Engine, b.cfg.Replica); err != nil {
		return err
	}
	env, err := b.Servers.env(b.cfg.Engine)
	if err != nil {
		return err
	}
	b.Dash = &Dash{cfg: b.cfg, port: ports, env: env, log: "dash.log"}
	if err := b.Dash.Start(ctx); err != nil {
		return err
	}
	var transport http.RoundTripper = newTransport()
	if b.cfg.Standby {
		if transport, err = b.startStandby(transport, ports+1); err != nil {
			return err
		}
	}
	if b.Client, err = b.Dash.client(ctx, transport); err != nil {
		return err
	}
	for i := range b.cfg.Gateways {
		if err := b.Register(ctx, i); err != nil {
			return err
		}
	}
	b.Watcher = watch(b.Client)
	return b.AwaitReady(ctx, b.cfg.Gateways)
}

func newTransport() *http.Transport {
	return &http.Transport{MaxIdleConns: 2048, MaxIdleConnsPerHost: 2048, IdleConnTimeout: 30 * time.Second, DisableCompression: true}
}

// Register tells Dash of a simulated gateway under the simulator's own name.
func (b *Bench) Register(ctx context.Context, i int) error {
	url, token, slots := b.Sim.URL(i), simToken, b.cfg.Slots
	_, err := b.Client.CreateGateway(ctx, api.CreateGateway{Id: Name(i), Url: &url, Token: &token, MaxConcurrency: &slots})
	if err != nil {
		return fmt.Errorf("register %s: %w", Name(i), err)
	}
	return nil
}

// Name is what gateway i is called by the simulator and by Dash.
func Name(i int) string { return fmt.Sprintf("sim-%d", i) }

// AwaitReady waits until n gateways are ready.
func (b *Bench) AwaitReady(ctx context.Context, n int) error {
	return await(ctx, bootPatience, fmt.Sprintf("%d ready gateways", n), func(ctx context.Context) error {
		page, err := b.Client.ListGateways(ctx, "", []api.GatewayState{"ready"}, api.Page{Limit: 1000})
		if err != nil {
			return err
		}
		if len(page.Items) < n {
			return fmt.Errorf("%d are ready", len(page.Items))
		}
		return nil
	})
}

// AwaitGateway waits until a gateway looks as wanted.
func (b *Bench) AwaitGateway(ctx context.Context, patience time.Duration, id string, ok func(*api.Gateway) bool) error {
	return await(ctx, patience, "gateway "+id, func(ctx context.Context) error {
		g, err := b.Client.GetGateway(ctx, id)
		if err == nil && !ok(g) {
			err = fmt.Errorf("it is %s with window %d and %d running", g.State, g.Window, g.Running)
		}
		return err
	})
}

// Truth is the ground-truth log of all simulated gateways.
func (b *Bench) Truth() string { return filepath.Join(b.cfg.Dir, "truth.jsonl") }

// Key is the admin API key of the node.
func (b *Bench) Key(ctx context.Context) (string, error) { return b.Dash.key(ctx) }

// Slots tells the configured concurrency of each gateway.
func (b *Bench) Slots() map[string]int {
	m := map[string]int{}
	for i := range b.cfg.Gateways {
		m[Name(i)] = b.cfg.Slots
	}
	return m
}

// Close ends the watcher and every process. It is idempotent.
func (b *Bench) Close() error {
	var errs []error
	if b.Watcher != nil {
		b.Watcher.Stop()
	}
	if b.Standby != nil {
		errs = append(errs, b.Standby.Stop())
	}
	if b.Dash != nil {
		errs = append(errs, b.Dash.Stop())
	}
	if b.Sim != nil {
		b.Sim.Kill()
	}
	if b.Servers != nil {
		errs = append(errs, b.Servers.Close())
	}
	if b.ports != nil {
		errs = append(errs, b.ports.Close())
	}
	return errors.Join(errs...)
}

// Dash is a dash serve process that can be killed and started again on the
// same folder and port.
type Dash struct {
	cfg  Config
	port int
	env  []string
	log  string // name of the file of its output
	proc *process
	// StalledLog gives the next processes an output that nobody reads, in place
	// of the log file.
	StalledLog bool
	unread     *os.File // the reading end of it
}

// Base is the address of the API.
func (d *Dash) Base() string { return fmt.Sprintf("http://127.0.0.1:%d", d.port) }

// Data is the node's data folder.
func (d *Dash) Data() string { return d.cfg.Data }

// PID of the running process.
func (d *Dash) PID() int { return d.proc.pid() }

// Start runs dash serve and waits until it answers that it is ready.
func (d *Dash) Start(ctx context.Context) error {
	if err := d.Launch(); err != nil {
		return err
	}
	return d.AwaitReady(ctx)
}

// Launch starts the process and does not wait for it to answer.
func (d *Dash) Launch() error {
	args := append([]string{"serve", "--data", d.cfg.Data, "--listen", fmt.Sprintf("127.0.0.1:%d", d.port), "--metrics-public"}, d.cfg.Args...)
	if d.unread != nil {
		_ = d.unread.Close() // of the last process, which has ended
		d.unread = nil
	}
	var err error
	if !d.StalledLog {
		d.proc, err = start(d.logFile(), d.env, d.cfg.Binary, args...)
		return err
	}
	read, write, err := stalledPipe()
	if err != nil {
		return err
	}
	d.unread = read
	d.proc, err = startTo(write, d.env, d.cfg.Binary, args...)
	return err
}

// Log is the file of what the process wrote.
func (d *Dash) Log() string { return d.logFile() }

func (d *Dash) logFile() string { return filepath.Join(d.cfg.Dir, d.log) }

// AwaitReady waits until the node answers that it takes work.
func (d *Dash) AwaitReady(ctx context.Context) error {
	c, err := api.NewClient(d.Base(), "", nil)
	if err != nil {
		return err
	}
	return await(ctx, bootPatience, "dash serve ready", func(ctx context.Context) error {
		if !d.proc.alive() {
			return fmt.Errorf("dash serve ended: %w; see %s", errors.Join(errors.New("exit"), d.proc.err), d.logFile())
		}
		h, err := c.GetReady(ctx)
		if err == nil && h.Status != "ok" {
			err = errors.New("status " + string(h.Status))
		}
		return err
	})
}

// Alive reports whether the process runs.
func (d *Dash) Alive() bool { return d.proc.alive() }

// Kill is kill -9.
func (d *Dash) Kill() { d.proc.kill() }

// Stop is SIGTERM, then a wait for the end.
func (d *Dash) Stop() error {
	if d.proc == nil {
		return nil
	}
	return d.proc.stop(30 * time.Second)
}

// client uses the admin key that the first start wrote.
func (d *Dash) client(ctx context.Context, t http.RoundTripper) (*api.Client, error) {
	key, err := d.key(ctx)
	if err != nil {
		return nil, err
	}
	return api.NewClient(d.Base(), key, &http.Client{Transport: t})
}

func (d *Dash) key(ctx context.Context) (key string, err error) {
	err = await(ctx, bootPatience, "admin key", func(context.Context) error {
		b, err := os.ReadFile(filepath.Join(d.cfg.Data, "admin.key"))
		key = strings.TrimSpace(string(b))
		return err
	})
	return key, err
}
