package events

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/dash-fleet/dash/http/auth"
	"github.com/dash-fleet/dash/messages"
)

// Config tunes the streams; zero fields take their defaults.
type Config struct {
	Heartbeat    time.Duration // 15 s
	WriteTimeout time.Duration // of one write to a watcher, before it is cut; 30 s
	AuthTimeout  time.Duration // until the first frame of a WebSocket without header; 10 s
	SubscribeIn  time.Duration // how long a WebSocket waits for a subscribe before it sends everything; 250 ms
	ReadTimeout  time.Duration // of one read of the log; 10 s
	Buffer       int           // live events that may wait for a watcher; 8,192
}

func (c Config) withDefaults() Config {
	for v, d := range map[*time.Duration]time.Duration{
		&c.Heartbeat: 15 * time.Second, &c.WriteTimeout: 30 * time.Second, &c.AuthTimeout: 10 * time.Second,
		&c.SubscribeIn: 250 * time.Millisecond, &c.ReadTimeout: 10 * time.Second,
	} {
		if *v <= 0 {
			*v = d
		}
	}
	if c.Buffer <= 0 {
		c.Buffer = 8192
	}
	return c
}

// Viewer is who watches a stream.
type Viewer struct {
	Token     string // as sent, to ask again whether it is still valid
	Need      auth.Permission
	Principal *auth.Principal // nil: a WebSocket that has not said who it is
	// Admit may refuse a WebSocket that has just said who it is; nil: nobody is.
	Admit func(context.Context, *auth.Principal) error
	// Count counts what a watcher asks for beyond its stream, and may refuse it: a
	// further subscribe, a further page of the past. nil: nothing is.
	Count func(context.Context, *auth.Principal) error
}

// pay counts one more page of the past and says how long it has to wait for it.
func (v *Viewer) pay(ctx context.Context) time.Duration {
	if v.Count == nil || v.Principal == nil {
		return 0
	}
	err := v.Count(ctx, v.Principal)
	var e *messages.Error
	switch {
	case err == nil:
		return 0
	case errors.As(err, &e):
		return max(e.RetryAfter, minPay)
	}
	return minPay
}

// minPay keeps a watcher that has to wait from asking all the time.
const minPay = 100 * time.Millisecond

// Server serves streams. It is safe for concurrent use.
type Server struct {
	cfg    Config
	log    Log
	runs   Runs
	auth   auth.Authenticator
	logger *slog.Logger
	ended  *prometheus.CounterVec
	router *router
	index  *index

	mu     sync.Mutex
	cancel context.CancelFunc
	done   chan struct{}
}

// NewServer returns a server of streams. r may be nil.
func NewServer(cfg Config, log Log, runs Runs, a auth.Authenticator, logger *slog.Logger, r prometheus.Registerer) (*Server, error) {
	s := &Server{
		cfg: cfg.withDefaults(), log: log, runs: runs, auth: a, logger: logger, router: newRouter(),
		ended: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "dash_http_streams_ended_total",
			Help: "Streams that ended, by reason: left, done, slow, credential, crowded, error.",
		}, []string{"reason"}),
	}
	s.index = newIndex(log, s.cfg.Buffer, s.cfg.ReadTimeout, indexed)
	if r != nil {
		if err := r.Register(s.ended); err != nil {
			return nil, fmt.Errorf("register stream metrics: %w", err)
		}
	}
	return s, nil
}

// Start begins to sort live events for the watchers of single runs, and to know
// past ones when somebody asks. It is idempotent.
func (s *Server) Start(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.done != nil {
		return nil
	}
	ctx, s.cancel = context.WithCancel(context.WithoutCancel(ctx))
	s.done = make(chan struct{})
	go func() {
		defer close(s.done)
		var both sync.WaitGroup
		defer both.Wait()
		both.Go(func() { s.index.run(ctx) })
		s.router.run(ctx, s.log, s.cfg.Buffer)
	}()
	return nil
}

// Stop ends the sorting and waits for it. It is idempotent.
func (s *Server) Stop(ctx context.Context) error {
	s.mu.Lock()
	cancel, done := s.cancel, s.done
	s.mu.Unlock()
	if done == nil {
		return nil
	}
	cancel()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

var (
	errCredential = errors.New("the credential has ended")
	errUnchecked  = errors.New("the credential cannot be checked")
	// ErrCrowded is the cause of a context that ends a WebSocket before it has
	// said who it is, because others need its place.
	ErrCrowded = errors.New("too many connections have not said who they are")
	errLeft    = errors.New("the watcher left")
)

// visible reports whether the viewer's tenant may see the event.
func visible(p *auth.Principal, e *messages.Event) bool {
	return p.Tenant == "" || p.Tenant == e.Tenant
}

// start is where a stream begins: after since, or with what happens from now on.
func (s *Server) start(ctx context.Context, since *int64) (int64, error) {
	if since != nil {
		return *since, nil
	}
	ctx, cancel := context.WithTimeout(ctx, s.cfg.ReadTimeout)
	defer cancel()
	last, err := s.log.LastSeq(ctx)
	if err != nil {
		return 0, fmt.Errorf("read the end of the log: %w", err)
	}
	return last, nil
}

func (s *Server) follower(since int64) *follower {
	return &follower{log: s.log, buffer: s.cfg.Buffer, timeout: s.cfg.ReadTimeout, last: since}
}

// count notes why a stream ended.
func (s *Server) count(ctx context.Context, err error) {
	reason := "error"
	switch {
	case err == nil:
		reason = "done"
	case errors.Is(err, ErrCrowded):
		reason = "crowded"
	case errors.Is(err, errSlow), errors.Is(err, os.ErrDeadlineExceeded):
		reason = "slow"
	case errors.Is(err, errCredential):
		reason = "credential"
	case ctx.Err() != nil, errors.Is(err, errLeft):
		reason = "left"
	}
	s.ended.WithLabelValues(reason).Inc()
	if reason == "error" {
		s.logger.Warn("stream failed", slog.Any("err", err))
	}
}

// ServeLog streams the log as server-sent events until ctx ends, the watcher
// is cut or its credential ends. It returns an error only while nothing has
// been written yet.
func (s *Server) ServeLog(ctx context.Context, w http.ResponseWriter, v Viewer, topics Topics, since *int64) error {
	from, err := s.start(ctx, since)
	if err != nil {
		return err
	}
	ctx, p := s.permit(ctx, v)
	defer p.close()
	out, err := newSSE(w, s.cfg.WriteTimeout, p, from)
	if err != nil {
		return err
	}
	f := s.follower(from)
	f.pay = v.pay
	defer f.close()
	err = s.pump(ctx, out, v, topics, f)
	s.count(ctx, p.reason(ctx, err))
	return nil
}

func (s *Server) pump(ctx context.Context, out *sse, v Viewer, topics Topics, f *follower) error {
	tick := time.NewTicker(s.cfg.Heartbeat)
	defer tick.Stop()
	for {
		events, g, err := f.next(ctx, tick.C, nil)
		if err != nil {
			return err
		}
		if g != nil {
			err = out.gap(g)
		}
		for _, e := range events {
			if err == nil && topics.Match(e) && visible(v.Principal, e) {
				err = out.event(e)
			}
		}
		if err == nil && g == nil && len(events) == 0 {
			out.heartbeat(f.last)
		}
		if len(events) == pageSize && out.buf.Len() == 0 {
			out.position(f.last) // none of them is for this watcher
		}
		if err == nil {
			err = out.flush(ctx)
		}
		if err != nil {
			return err
		}
	}
}
