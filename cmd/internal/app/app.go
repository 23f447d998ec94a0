package app

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/dash-fleet/dash/actors"
	"github.com/dash-fleet/dash/actors/commit"
	"github.com/dash-fleet/dash/actors/dispatch"
	"github.com/dash-fleet/dash/actors/feed"
	"github.com/dash-fleet/dash/actors/fleet"
	"github.com/dash-fleet/dash/actors/gateway"
	"github.com/dash-fleet/dash/actors/openclaw"
	"github.com/dash-fleet/dash/actors/openclaw/launcher"
	"github.com/dash-fleet/dash/cluster"
	"github.com/dash-fleet/dash/cmd/internal/accounts"
	"github.com/dash-fleet/dash/cmd/internal/audit"
	"github.com/dash-fleet/dash/cmd/internal/config"
	"github.com/dash-fleet/dash/cmd/internal/engine"
	"github.com/dash-fleet/dash/cmd/internal/health"
	"github.com/dash-fleet/dash/cmd/internal/keystore"
	"github.com/dash-fleet/dash/cmd/internal/networks"
	"github.com/dash-fleet/dash/cmd/internal/redishelp"
	"github.com/dash-fleet/dash/cmd/internal/retention"
	"github.com/dash-fleet/dash/cmd/internal/secrets"
	"github.com/dash-fleet/dash/cmd/internal/telemetry"
	"github.com/dash-fleet/dash/cmd/internal/tracing"
	"github.com/dash-fleet/dash/http/auth"
	"github.com/dash-fleet/dash/http/ratelimit"
	"github.com/dash-fleet/dash/http/server"
	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/persistence"
	"github.com/dash-fleet/dash/persistence/backup/schedule"
)

// Deps is what a node gets from outside.
type Deps struct {
	Logger   *slog.Logger
	Registry *prometheus.Registry
	Version  string
	// BcryptCost of a key made at the first start; 0: auth.DefaultCost.
	BcryptCost int
	// Dial connects to gateways; nil: openclaw.Dial. Benchmarks use gateways
	// that answer at once, without a socket.
	Dial gateway.DialFunc
	// RedisTimeout is what anything waits for the helping Redis server, and
	// TailEvery the pause between two looks at the event log while the store does
	// not tell of new events; 0: 100 ms and 200 ms.
	RedisTimeout, TailEvery time.Duration
}

// tailEvery is what an event costs of which no notice came.
const tailEvery = 200 * time.Millisecond

// App is a running node.
type App struct {
	cfg     config.Config
	deps    Deps
	logger  *slog.Logger
	cleanup cleanups
	fatal   chan error

	nodeID     string
	addr       string // where others find its API
	networks   networks.Policy
	temporary  bool // the data folder is removed in the end
	home       cluster.Home
	engine     *engine.Engine
	lease      *cluster.Lease
	homes      *cluster.Homes
	strays     *fleet.Strays
	duty       *cluster.Duty // does it work, or stand by
	rebuilding atomic.Bool   // the store lost data: every other failure follows from that
	store      persistence.Store
	repos      persistence.Repositories
	secrets    *secrets.Secrets
	tenants    *accounts.Tenants
	keys       *keystore.Store
	sims       func(context.Context) error // registers simulated gateways of this process; nil: none
	helper     *redishelp.Helper           // nil: there is no Redis server beside the store
	feed       *feed.Feed
	losses     *telemetry.TaskLog
	off        *retention.Off
	tracer     *tracing.Tracer    // nil: tasks are not traced
	backups    *schedule.Schedule // nil: none are scheduled
	commits    *commit.Metrics
	node       *actors.Node
	parts      *parts
	fleet      *fleet.Fleet
	server     *server.Server
	adminKey   messages.Secret
	keyFile    string

	certificate *server.Certificate // nil: the API does not speak TLS
	keyEnds     *accounts.Ends
}

// Start brings a node up. When it returns without error the API answers.
func Start(ctx context.Context, cfg config.Config, deps Deps) (*App, error) {
	a := &App{cfg: cfg, deps: deps, logger: deps.Logger, fatal: make(chan error, 1)}
	a.deps.BcryptCost = cmp.Or(deps.BcryptCost, auth.DefaultCost)
	if err := a.setup(ctx); err != nil {
		return nil, errors.Join(err, a.cleanup.run())
	}
	return a, nil
}

// setup is one straight line on purpose: it is the node's table of contents.
func (a *App) setup(ctx context.Context) error {
	if a.deps.Dial == nil {
		a.deps.Dial = dial
	}
	// The port and the certificate first: whoever cannot serve changes nothing.
	var err error
	if a.cfg.TLSCert != "" {
		if a.certificate, err = server.OpenCertificate(a.cfg.TLSCert, a.cfg.TLSKey); err != nil {
			return err
		}
	}
	listen, err := server.Listen(ctx, a.serverConfig())
	if err != nil {
		return err
	}
	a.cleanup.add("listener", func(context.Context) error {
		if a.server != nil {
			return nil // its own by now
		}
		return listen.Close()
	})
	if !a.cfg.RedisURL.Empty() {
		a.helper, err = redishelp.Open(redishelp.Config{URL: a.cfg.RedisURL, Timeout: a.deps.RedisTimeout, Logger: a.logger, Registerer: a.deps.Registry})
		if err != nil {
			return err
		}
		a.cleanup.add("redis", a.helper.Close)
	}
	if err := a.prepareData(); err != nil {
		return err
	}
	for _, way := range health.Exposed(a.cfg) {
		a.logger.Warn("this node is exposed", slog.String("reason", way))
	}
	a.nodeID = cluster.NewNodeID(a.cfg.Node)

	// The store: truth.
	a.engine, err = engine.Open(ctx, a.cfg, a.logger, a.deps.Registry)
	if err != nil {
		return err
	}
	a.cleanup.add("store", func(context.Context) error { return a.engine.Close() })
	a.store, a.repos = a.engine.Store, a.engine.Repos
	a.tenants = accounts.NewTenants(a.repos.Tenants)
	a.addr = advertised(listen.Addr())
	a.networks.Listening(listen.Addr())
	if a.networks.Within, err = a.cfg.Networks(); err != nil {
		return err
	}
	if a.secrets, err = secrets.Open(ctx, a.repos.Gateways, a.cfg, a.logger); err != nil {
		return err
	}
	a.repos.Gateways = a.secrets.Gateways
	if err := a.openHome(); err != nil {
		return err
	}
	if err := a.recoverLoss(ctx); err != nil {
		return err
	}
	if err := a.firstKey(ctx); err != nil {
		return err
	}
	if err := a.startLease(ctx); err != nil {
		return err
	}

	if err := a.homes.WarnOfLost(ctx, a.repos.Gateways, a.cfg.Data); err != nil {
		return err
	}

	// The feed: what the store has taken goes out to watchers.
	last, err := a.store.LastSeq(ctx)
	if err != nil {
		return fmt.Errorf("read event log: %w", err)
	}
	if a.off, err = retention.NewOff(ctx, a.store, last); err != nil {
		return err
	}
	a.feed = feed.New(last, a.deps.Registry)
	tail := feed.Tail{Log: a.store, Logger: a.logger}
	if a.engine.Shared {
		tail.Every = cmp.Or(a.deps.TailEvery, tailEvery)
	}
	a.cleanup.background("event tail", func(ctx context.Context) { a.feed.Follow(ctx, tail) })

	// Simulated gateways outlive those that dial them: a stop is no loss.
	if err := a.startSims(ctx); err != nil {
		return err
	}

	if a.cfg.PprofListen != "" {
		profiles, err := telemetry.ServeProfiles(ctx, a.cfg.PprofListen, a.logger)
		if err != nil {
			return err
		}
		a.networks.Listening(profiles.Addr())
		a.cleanup.add("profiles", profiles.Stop)
	}

	// The tree: committer first, then pools, then gateways.
	a.commits = commit.NewMetrics(a.deps.Registry)
	if err := a.startTracing(ctx); err != nil {
		return err
	}
	a.losses = telemetry.NewTaskLog(a.logger, a.deps.Registry, dispatch.HoldFor)
	a.cleanup.add("log of tasks", func(context.Context) error { a.losses.Close(); return nil })
	a.node, err = actors.Start(ctx, actors.Config{
		Commit: commit.Config{Store: a.store, Logger: a.logger, Publish: a.publish, Timeout: a.engine.CommitTimeout, Metrics: a.commits},
		Logger: a.logger, Fatal: a.fail, Registerer: a.deps.Registry,
		Changed: func() { a.fleet.Wake() },
	})
	if err != nil {
		return err
	}
	a.cleanup.add("supervision tree", a.node.Stop)
	if err := a.startFleet(ctx); err != nil {
		return err
	}
	a.startRetention()
	if err := a.watchEnds(); err != nil {
		return err
	}
	a.watchLoss()
	if err := a.startBackups(); err != nil {
		return err
	}

	// The API: last in, first out.
	if err := a.startServer(ctx, listen); err != nil {
		return err
	}
	a.logger.Info("node started", slog.String("node", a.nodeID), slog.String("version", a.deps.Version), slog.String("address", a.addr), slog.String("url", a.PublicURL()),
		slog.String("store", a.cfg.Store), slog.String("data", a.cfg.Data))
	return nil
}

func (a *App) prepareData() error {
	if a.cfg.Data == "" {
		dir, err := os.MkdirTemp("", "dash-dev-")
		if err != nil {
			return fmt.Errorf("make data folder: %w", err)
		}
		a.cfg.Data, a.temporary = dir, true
		a.cleanup.add("data folder", func(context.Context) error { return os.RemoveAll(dir) })
	}
	abs, err := filepath.Abs(a.cfg.Data)
	if err != nil {
		return fmt.Errorf("data folder: %w", err)
	}
	a.cfg.Data = abs
	if err := os.MkdirAll(abs, 0o700); err != nil {
		return fmt.Errorf("make data folder: %w; give a folder that can be written with --data", err)
	}
	return nil
}

// startFleet takes up pools and gateways.
func (a *App) startFleet(ctx context.Context) error {
	launch, err := launcher.New(launcher.Config{
		Dir: a.cfg.Data, Command: a.cfg.OpenClawCommand, ProbeNames: a.cfg.OpenClawProbeNames,
		Commands: a.cfg.ManagedCommands, Reserved: a.ownPaths(),
		StartupTimeout: a.cfg.OpenClawStartupTimeout, ProbeInterval: a.cfg.OpenClawProbeInterval,
		Logger: a.logger, Registerer: a.deps.Registry,
	})
	if err != nil {
		return err
	}
	a.cleanup.add("launcher", func(context.Context) error { launch.Close(); return nil })
	a.parts = &parts{
		app: a, launcher: launch,
		dispatch: dispatch.NewMetrics(a.deps.Registry), gateways: gateway.NewMetrics(a.deps.Registry),
		openclaw: openclaw.NewMetrics(a.deps.Registry), boots: gateway.NewBoots(), memory: gateway.NewMemory(a.deps.Registry),
	}
	a.fleet = a.newFleet()
	a.cleanup.add("fleet", a.fleet.Stop)
	if err := a.startDuty(ctx); err != nil {
		return err
	}
	a.strays = &fleet.Strays{
		Processes: launch, Gateways: a.repos.Gateways, Store: a.store, Keeps: a.home.Keeps, Logger: a.logger,
		Owned: func(id string) bool { _, owned := a.node.Gateway(id); return owned && a.works() },
	}
	if a.engine.Shared { // else nobody else removes a gateway
		a.cleanup.background("processes of removed gateways", a.strays.Watch)
	}
	return nil
}

// firstKey makes the admin key of a store that has none.
func (a *App) firstKey(ctx context.Context) (err error) {
	a.keyFile = a.cfg.KeyFile()
	first := accounts.FirstKey{Rows: a.repos, File: a.keyFile, BcryptCost: a.deps.BcryptCost, Logger: a.logger}
	a.adminKey, err = first.Make(ctx)
	return err
}

// watchEnds follows what ends by itself: the certificate of the API, and keys.
func (a *App) watchEnds() error {
	a.keyEnds = accounts.NewEnds(a.repos.Keys, a.logger)
	for _, c := range []prometheus.Collector{a.keyEnds, a.certificate} {
		if err := a.deps.Registry.Register(c); err != nil {
			return fmt.Errorf("register metrics of expiry: %w", err)
		}
	}
	a.cleanup.background("watch of keys", a.keyEnds.Watch)
	if a.certificate != nil {
		a.cleanup.background("watch of the certificate", func(ctx context.Context) { a.certificate.Watch(ctx, a.logger) })
	}
	return nil
}

// Reload serves the certificate that is on disk now.
func (a *App) Reload() error {
	if a.certificate == nil {
		return nil
	}
	changed, err := a.certificate.Reload()
	if changed {
		a.logger.Info("a renewed certificate is served", slog.Time("expires", a.certificate.Expires()))
	}
	return err
}

// ownPaths are the files and folders that no gateway's process is to write to.
func (a *App) ownPaths() (paths []string) {
	for _, path := range []string{a.cfg.KeyFile(), a.cfg.SecretKeyPath(), a.cfg.TLSCert, a.cfg.TLSKey, a.cfg.BackupDir} {
		if path == "" {
			continue
		}
		if abs, err := filepath.Abs(path); err == nil {
			paths = append(paths, abs)
		}
	}
	return paths
}

func (a *App) serverConfig() server.Config {
	public, _ := a.cfg.Public() // it was valid when the configuration was read
	proxies, _ := a.cfg.Proxies()
	return server.Config{
		PublicURL: public, TrustedProxies: proxies, TenantRateLimit: a.cfg.TenantRateLimit,
		Listen: a.cfg.Listen, Certificate: a.certificate, Version: a.deps.Version,
		PublicMetrics: a.cfg.MetricsPublic,
	}
}

// startLimits returns who counts the requests of keys.
func (a *App) startLimits(ctx context.Context) (ratelimit.Limiter, error) {
	local, err := ratelimit.NewLocal(0, a.deps.Registry)
	if err != nil || a.helper == nil {
		return local, err
	}
	shared, err := a.helper.Limits(local)
	if err != nil {
		return nil, err
	}
	shared.Start(ctx)
	a.cleanup.add("limits", func(context.Context) error { shared.Stop(); return nil })
	return shared, nil
}

// startServer opens the API.
func (a *App) startServer(ctx context.Context, listen net.Listener) error {
	a.keys = keystore.New(a.repos.Keys, a.logger)
	a.keys.Start(context.WithoutCancel(ctx))
	a.cleanup.add("key store", func(context.Context) error { a.keys.Stop(); return nil })
	keys, err := auth.NewKeys(auth.KeysConfig{}, a.keys, a.logger, a.deps.Registry)
	if err != nil {
		return err
	}
	if err := keys.Start(context.WithoutCancel(ctx)); err != nil {
		return err
	}
	a.cleanup.add("keys", keys.Stop)
	limits, err := a.startLimits(ctx)
	if err != nil {
		return err
	}
	api, err := server.New(a.serverConfig(), server.Deps{
		Commands: a.Commands(), Limits: limits, Submitted: a.tracer.Submitted,
		Auth: keys, Logger: a.logger, Registerer: a.deps.Registry, Gatherer: a.deps.Registry, Listener: listen,
	})
	if err != nil {
		return err
	}
	a.server = api // from here on the listener is its own
	if err := api.Start(context.WithoutCancel(ctx)); err != nil {
		return err
	}
	a.cleanup.add("api", func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, apiStopTimeout)
		defer cancel()
		return a.server.Stop(ctx)
	})
	return nil
}

// Commands are what the API calls, for a caller in this process. They are valid
// from the return of Start until Stop.
func (a *App) Commands() server.Commands {
	c := newCommands(a)
	return server.Commands{
		Tasks: c.tasks(), Sessions: c.sessions(),
		Gateways: c.gateways(), Pools: c.pools(),
		Accounts: &accounts.Commands{
			Rows: a.repos, Known: a.tenants, Forget: a.keys.Forget, ClaimPool: a.fleet.ClaimPool, BcryptCost: a.deps.BcryptCost,
		},
		Audit: audit.NewLog(a.repos.Audit),
		Nodes: nodeCommands{c}, Health: a.health(c), Events: eventLog{c}, Runs: runTexts{c},
	}
}

// publish hands the events of a batch to this node's watchers and says in the log
// which tasks came to no good end. It never waits.
func (a *App) publish(events []*messages.Event) {
	a.feed.Publish(events)
	a.losses.Note(events)
	a.tracer.Note(events)
}

// fail ends the node: it cannot keep its promises any more.
func (a *App) fail(err error) {
	if a.rebuilding.Load() && !errors.Is(err, ErrStartAnew) {
		a.logger.Warn("stopped by the loss of data", slog.Any("err", err))
		return
	}
	select {
	case a.fatal <- err:
	default:
	}
}

// Fatal delivers the reason when the node cannot go on.
func (a *App) Fatal() <-chan error { return a.fatal }

// URL is where the API answers.
func (a *App) URL() string {
	scheme := "http"
	if a.cfg.TLSCert != "" {
		scheme = "https"
	}
	return scheme + "://" + a.server.Addr().String()
}

// PublicURL is where clients reach the API: URL, unless another is configured.
func (a *App) PublicURL() string {
	if public, err := a.cfg.Public(); err == nil && public != "" {
		return public
	}
	return a.URL()
}

// AdminKey is the key made at this start, empty when there was one already;
// KeyFile is the file that holds it.
func (a *App) AdminKey() (key messages.Secret, file string) { return a.adminKey, a.keyFile }

// Data is the data folder in use.
func (a *App) Data() string { return a.cfg.Data }

// Stop ends the node: no new requests, then the tree, then the store. Managed
// gateways and the runs on them go on.
func (a *App) Stop() error {
	begun := time.Now()
	err := a.cleanup.run()
	attrs := []any{slog.String("node", a.nodeID), slog.String("took", time.Since(begun).Round(time.Millisecond).String())}
	if err != nil {
		attrs = append(attrs, slog.Any("err", err))
	}
	a.logger.Info("node stopped", attrs...)
	return err
}

// startRetention removes finished tasks and old sessions as the configuration says.
func (a *App) startRetention() {
	if a.cfg.Retention > 0 {
		w := &retention.Tasks{Store: a.store, History: a.engine.History, Keep: a.cfg.Retention, Off: a.off, Works: a.works, Logger: a.logger}
		a.cleanup.background("sweeper", func(ctx context.Context) { retention.Repeat(ctx, w.Step) })
	}
	w := retention.NewSessions(a.sessionWalk(newCommands(a)), a.deps.Registry)
	if w.Keep > 0 || w.Idle > 0 {
		a.cleanup.background("session sweeper", func(ctx context.Context) { retention.Repeat(ctx, w.Step) })
	}
}

func (a *App) sessionWalk(c *commands) retention.Sessions {
	return retention.Sessions{
		Store: a.store, Keep: a.cfg.SessionRetention, Idle: a.cfg.SessionIdle, Off: a.off, Works: a.works, Logger: a.logger,
		Retire: func(ctx context.Context, pool string, due dispatch.RetireSessions) (dispatch.Retired, error) {
			if there, err := a.fleet.StartFor(ctx, due.Sessions[0]); err != nil || !there {
				return dispatch.Retired{}, err
			}
			return c.owners.RetireSessions(ctx, pool, due)
		},
	}
}
