package server

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/julienschmidt/httprouter"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/dash-fleet/dash/http/auth"
	"github.com/dash-fleet/dash/http/events"
	"github.com/dash-fleet/dash/http/ratelimit"
)

// Config tunes the server; the zero value of a field means its default.
type Config struct {
	Listen  string // "127.0.0.1:7373"; ":0" takes a free port, see Addr
	Version string // of Dash, shown by health
	// PublicURL is where clients reach this server, perhaps below a path, without
	// a slash at its end: every link begins with it. Empty: links are paths.
	PublicURL string
	// Certificate makes the API speak TLS; nil: it does not.
	Certificate *Certificate

	// TrustedProxies may say in X-Forwarded-For where a request comes from.
	TrustedProxies []netip.Prefix

	// TenantRateLimit is how many requests per minute all keys of a tenant may
	// make together; 0: no limit.
	TenantRateLimit int

	// PublicMetrics serves /metrics without a credential. Meant for a server
	// that listens on loopback; the default asks for metrics:read.
	PublicMetrics bool

	MaxBody        int64         // bytes of a request body; 1 MiB
	MaxHeader      int           // bytes of a request's header; 16 KiB
	HeaderTimeout  time.Duration // reading a header; 5 s
	ReadTimeout    time.Duration // reading a body; 30 s
	HandleTimeout  time.Duration // a command, without long-poll; 30 s
	DrainTimeout   time.Duration // reading the rest of a body that was refused; 5 s
	WriteTimeout   time.Duration // writing an answer, or one event of a stream; 30 s
	IdleTimeout    time.Duration // a connection without request; 120 s
	MaxConnections int           // 32,768, and half of the descriptors that the process may have, see connections
	MaxRequests    int           // ordinary requests in flight; 1,024 and a quarter of the connections, more wait up to QueueTimeout
	QueueTimeout   time.Duration // 2 s, then 503
	MaxWaits       int           // long-polls in flight; 10,000 and half of the connections, more get 503
	MaxStreams     int           // SSE and WebSocket streams; 2,000 and an eighth of the connections, more get 503
	MaxGuests      int           // WebSockets that have not said who they are, an eighth of them per address; 256, beyond them the oldest goes
	RememberFor    time.Duration // 24 h
	EventHeartbeat time.Duration // of streams; 15 s
	// MaxRemembered is what answers take that are kept for Idempotency-Key of writes
	// other than submits, in bytes; 16 MiB.
	MaxRemembered int64
	// MaxPageBytes is what lists and long tasks hold in memory at once until they
	// are sent, half of it those of one key, three quarters those of a tenant; 128 MiB, more wait up to QueueTimeout.
	MaxPageBytes int64
}

func (c Config) withDefaults() Config {
	durations := map[*time.Duration]time.Duration{
		&c.HeaderTimeout: 5 * time.Second, &c.ReadTimeout: 30 * time.Second, &c.HandleTimeout: 30 * time.Second,
		&c.WriteTimeout: 30 * time.Second, &c.IdleTimeout: 120 * time.Second, &c.QueueTimeout: 2 * time.Second, &c.DrainTimeout: 5 * time.Second,
		&c.RememberFor: 24 * time.Hour, &c.EventHeartbeat: 15 * time.Second,
	}
	for v, d := range durations {
		if *v == 0 {
			*v = d
		}
	}
	if c.MaxConnections == 0 {
		c.MaxConnections = int(min(32_768, descriptors()/2)) //nolint:gosec // it is small
	}
	n := c.MaxConnections
	ints := map[*int]int{
		&c.MaxHeader: 16 << 10, &c.MaxRequests: min(1024, n/4+1), &c.MaxWaits: min(10_000, n/2+1), &c.MaxStreams: min(2_000, n/8+1),
		&c.MaxGuests: 256,
	}
	for v, d := range ints {
		if *v == 0 {
			*v = d
		}
	}
	if c.MaxRemembered == 0 {
		c.MaxRemembered = 16 << 20
	}
	if c.MaxPageBytes == 0 {
		c.MaxPageBytes = 128 << 20
	}
	if c.MaxBody == 0 {
		c.MaxBody = 1 << 20
	}
	if c.Listen == "" {
		c.Listen = "127.0.0.1:7373"
	}
	return c
}

// Validate says what is wrong with the configuration.
func (c Config) Validate() error {
	if c.MaxBody < 0 || c.MaxRequests < 0 || c.MaxWaits < 0 || c.MaxStreams < 0 || c.MaxGuests < 0 || c.MaxConnections < 0 || c.MaxRemembered < 0 || c.MaxPageBytes < 0 || c.TenantRateLimit < 0 {
		return errors.New("limits of the server must not be negative")
	}
	return nil
}

// Deps is what the server stands on. Logger, Auth and all of Commands are required.
type Deps struct {
	Commands   Commands
	Auth       auth.Authenticator
	Logger     *slog.Logger
	Registerer prometheus.Registerer // of the server's own metrics; may be nil
	Gatherer   prometheus.Gatherer   // what /metrics serves; nil: nothing
	// Submitted is told of each submit that made a task: its id, the traceparent
	// that the client sent, and when its credential was looked at. It must not wait; may be nil.
	Submitted func(id, traceparent string, began time.Time)
	// Limits judges the requests of keys that have a limit; nil: this process counts.
	Limits ratelimit.Limiter
	// Listener comes from Listen, for a caller that wants to know early that
	// the port is free; nil: Start opens it. From Start on the server closes it.
	Listener net.Listener
}

// Server answers the API on one port.
type Server struct {
	given   net.Listener // from Deps; nil: Start opens its own
	accept  *accepting   // around it
	cfg     Config
	cmd     Commands
	auth    auth.Authenticator
	limits  ratelimit.Limiter
	logger  *slog.Logger
	gather  prometheus.Gatherer
	told    func(id, traceparent string, began time.Time) // of submits
	doc     *document
	pages   pages
	router  *httprouter.Router
	metrics *metrics
	events  *events.Server
	replies *replies
	audit   *auditor
	answers *budget
	refused refusals

	requests, waits, streams, hashes *quota
	lobby                            *lobby
	bodies                           *budget
	bodyWeight                       int64 // of a body before anything of it has arrived
	drains                           chan struct{}

	sockets  sync.WaitGroup // WebSockets, which http.Server forgets
	nextID   atomic.Uint64
	idPrefix string
	stopping atomic.Bool

	mu       sync.Mutex
	listener net.Listener
	http     *http.Server
	served   chan struct{}
	fatal    chan error
	ctx      context.Context // ends when streams and long-polls must
	cancel   context.CancelFunc
	cut      context.Context // ends when a Stop does not wait any longer
	cutNow   context.CancelFunc
}

// New returns a server that does not listen yet. It refuses when an operation
// of the document has no handler or a handler has no operation, or when the
// two disagree about who may call it.
func New(cfg Config, deps Deps) (*Server, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if err := deps.validate(); err != nil {
		return nil, err
	}
	cfg = cfg.withDefaults()
	if deps.Submitted == nil {
		deps.Submitted = func(string, string, time.Time) {}
	}
	doc, err := loadDocument()
	if err != nil {
		return nil, err
	}
	s := &Server{
		accept: &accepting{logger: deps.Logger}, refused: refusals{bound: maxRefusals}, given: deps.Listener, cfg: cfg, cmd: deps.Commands, auth: deps.Auth, limits: deps.Limits, logger: deps.Logger, gather: deps.Gatherer, told: deps.Submitted, doc: doc,
		requests: newQuota(cfg.MaxRequests), waits: newQuota(cfg.MaxWaits), streams: newQuota(cfg.MaxStreams), hashes: newQuota(maxHashes),
		bodies: newBudget(maxBodyBytes, 0), bodyWeight: maxBodyBytes / int64(min(2_048, cfg.MaxConnections/8+1)),
		lobby: newLobby(cfg.MaxGuests), drains: make(chan struct{}, maxDrains), idPrefix: randomPrefix(),
		replies: newReplies(cfg.MaxRemembered, cfg.RememberFor), answers: newBudget(cfg.MaxPageBytes, cfg.QueueTimeout), fatal: make(chan error, 1),
	}
	s.accept.connections = newConnections(cfg.MaxConnections, s.trusts)
	s.ctx, s.cancel = context.WithCancel(context.Background()) // ends with Stop; requests have their own
	s.cut, s.cutNow = context.WithCancel(context.Background())
	if s.pages, err = pagesFor(doc, cfg.PublicURL); err != nil {
		return nil, err
	}
	s.audit = newAuditor(deps.Commands.Audit, deps.Logger)
	if s.limits == nil {
		if s.limits, err = ratelimit.NewLocal(0, deps.Registerer); err != nil {
			return nil, err
		}
	}
	if s.metrics, err = newMetrics(deps.Registerer, s); err != nil {
		return nil, err
	}
	s.events, err = events.NewServer(events.Config{
		Heartbeat: cfg.EventHeartbeat, WriteTimeout: cfg.WriteTimeout,
	}, deps.Commands.Events, deps.Commands.Runs, deps.Auth, deps.Logger, deps.Registerer)
	if err != nil {
		return nil, err
	}
	if s.router, err = s.routes(); err != nil {
		return nil, err
	}
	return s, nil
}

func (d Deps) validate() error {
	c := d.Commands
	missing := map[string]bool{
		"Tasks": c.Tasks == nil, "Gateways": c.Gateways == nil, "Sessions": c.Sessions == nil, "Pools": c.Pools == nil,
		"Accounts": c.Accounts == nil, "Audit": c.Audit == nil,
		"Nodes": c.Nodes == nil, "Health": c.Health == nil, "Events": c.Events == nil, "Runs": c.Runs == nil,
		"Auth": d.Auth == nil, "Logger": d.Logger == nil,
	}
	for name, is := range missing {
		if is {
			return fmt.Errorf("server: %s is missing", name)
		}
	}
	return nil
}

// Listen opens the API's port. Connections wait in the system's backlog until a
// Server starts to accept them.
func Listen(ctx context.Context, cfg Config) (net.Listener, error) {
	cfg = cfg.withDefaults()
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", cfg.Listen)
	if err != nil {
		return nil, fmt.Errorf("listen: %w", err)
	}
	return l, nil
}

// maxStreamsPerConnection bounds the requests of one HTTP/2 connection at once.
const maxStreamsPerConnection = 100

// Start listens and begins to answer. It is idempotent.
func (s *Server) Start(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.listener != nil {
		return nil
	}
	l := s.given
	if l == nil {
		var err error
		if l, err = Listen(ctx, s.cfg); err != nil {
			return err
		}
	}
	if err := s.events.Start(ctx); err != nil {
		return errors.Join(err, l.Close())
	}
	s.accept.Listener = l
	s.listener, s.served = s.accept, make(chan struct{})
	if s.cfg.Certificate != nil {
		s.listener = tls.NewListener(s.accept, s.cfg.Certificate.config())
	}
	s.http = &http.Server{
		Handler: s, ReadHeaderTimeout: s.cfg.HeaderTimeout, IdleTimeout: s.cfg.IdleTimeout,
		MaxHeaderBytes: s.cfg.MaxHeader, ErrorLog: slog.NewLogLogger(s.logger.Handler(), slog.LevelDebug),
		DisableGeneralOptionsHandler: true, ConnContext: withConnection,
		HTTP2: &http.HTTP2Config{
			MaxConcurrentStreams: maxStreamsPerConnection, MaxReceiveBufferPerConnection: int(s.cfg.MaxBody) + 64<<10,
			SendPingTimeout: s.cfg.IdleTimeout / 4, PingTimeout: s.cfg.IdleTimeout / 8, WriteByteTimeout: s.cfg.WriteTimeout,
		},
	}
	s.audit.start()
	go s.serve(s.http, s.listener)
	return nil
}

func (s *Server) serve(h *http.Server, l net.Listener) {
	defer close(s.served)
	if err := h.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		s.fatal <- fmt.Errorf("serve API: %w", err)
	}
}

// Fatal delivers the error that ended the server without a Stop.
func (s *Server) Fatal() <-chan error { return s.fatal }

// Addr is where the server listens, nil before Start.
func (s *Server) Addr() net.Addr {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.listener == nil {
		return nil
	}
	return s.listener.Addr()
}

// Drain makes the node answer not ready, while it goes on answering requests;
// call it before Stop when a load balancer should notice first.
func (s *Server) Drain() { s.stopping.Store(true) }

// Stop ends streams and long-polls, lets other requests finish, and cuts what
// is left when ctx ends, which is no error: whoever sends or reads slowly must
// not make a stop fail. It is idempotent.
func (s *Server) Stop(ctx context.Context) error {
	s.Drain()
	s.cancel()
	s.mu.Lock()
	h, served := s.http, s.served
	s.mu.Unlock()
	if h == nil {
		return nil
	}
	stopEvents := s.events.Stop(ctx)
	err := h.Shutdown(ctx)
	s.cutNow()
	switch {
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		s.logger.Warn("requests were cut at the stop", slog.Any("err", err))
		err = h.Close()
	case err != nil:
		err = errors.Join(fmt.Errorf("stop API: %w", err), h.Close())
	}
	<-served
	s.waitSockets(ctx)
	s.audit.stop(ctx)
	return errors.Join(stopEvents, err)
}

// socketGrace is what WebSockets get to close when the time of a stop was used
// up by other requests.
const socketGrace = time.Second

// waitSockets waits for the WebSockets, which s.cancel has told to close. One
// whose client does not read ends with its connection, or with the process.
func (s *Server) waitSockets(ctx context.Context) {
	done := make(chan struct{})
	go func() { s.sockets.Wait(); close(done) }()
	select {
	case <-done:
		return
	case <-ctx.Done():
	}
	select {
	case <-done:
	case <-time.After(socketGrace):
		s.logger.Warn("WebSockets were left open at the stop: their clients do not read")
	}
}
