// Package redishelp is a Redis server that helps the nodes of a fleet beside their
// store: it counts the requests of keys for all of them. Nothing depends on it. While
// it does not answer, each node counts alone, and says so.
package redishelp

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	goredis "github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/logging"
	"github.com/redis/go-redis/v9/maintnotifications"

	"github.com/dash-fleet/dash/http/ratelimit"
	"github.com/dash-fleet/dash/http/server"
	"github.com/dash-fleet/dash/messages"
)

// Timeout is what a request waits for Redis at most, unless the
// configuration says otherwise; pause is how long a server that failed is left alone.
const (
	Timeout = 100 * time.Millisecond
	pause   = time.Second
)

// Config of a Helper.
type Config struct {
	URL        messages.Secret
	Timeout    time.Duration // 0: Timeout
	Logger     *slog.Logger
	Registerer prometheus.Registerer
}

// Helper is the connection to the server. A nil Helper, of a node without one, has no
// checks.
type Helper struct {
	client     *goredis.Client
	timeout    time.Duration
	registerer prometheus.Registerer
	counting   *outage
}

// Open reads the URL; nothing is connected yet.
func Open(cfg Config) (*Helper, error) {
	h := &Helper{timeout: cmp.Or(cfg.Timeout, Timeout), registerer: cfg.Registerer}
	// The library prints by itself what it also returns as an error; the switch
	// is one for the whole process.
	logging.Disable()
	o, err := goredis.ParseURL(cfg.URL.Reveal())
	if err != nil {
		// The reason quotes what it could not read, which may be the password.
		return nil, errors.New("the Redis URL cannot be read: write it as redis://user:password@host:6379/0, or rediss:// for TLS; in a password / is %2F, # is %23 and @ is %40")
	}
	o.Protocol = 2
	o.MaxRetries = -1
	o.DialerRetries = 1
	o.ContextTimeoutEnabled = true
	o.DialTimeout, o.ReadTimeout, o.WriteTimeout, o.PoolTimeout = 5*h.timeout, 5*h.timeout, 5*h.timeout, h.timeout
	o.PoolSize, o.MaxActiveConns, o.MinIdleConns = 16, 16, 0
	o.PipelinePoolSize = -1
	o.DisableIdentity = true
	o.ClientName = "dash-helper"
	o.MaintNotificationsConfig = &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
	h.client = goredis.NewClient(o)

	up := prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "dash_redis_up", Help: "1 while Redis is in use, 0 while the node works without it: limits.",
	}, []string{"use"})
	if err := cfg.Registerer.Register(up); err != nil {
		return nil, fmt.Errorf("register redis metrics: %w", err)
	}
	h.counting = &outage{use: "limits", without: "each node counts the requests of keys alone", up: up, logger: cfg.Logger}
	return h, nil
}

// Close ends the connection. What uses it has stopped by then.
func (h *Helper) Close(context.Context) error { return h.client.Close() }

// Limits counts the requests of keys for all nodes, until it is stopped; local counts
// while the server does not answer.
func (h *Helper) Limits(local *ratelimit.Local) (*ratelimit.Shared, error) {
	return ratelimit.NewShared(ratelimit.Config{
		Client: h.client, Local: local, Timeout: h.timeout, Pause: pause, Changed: h.counting.note, Registerer: h.registerer,
	})
}

// Checks are for the health of the node, which works all the same without its help.
func (h *Helper) Checks() []server.Check {
	if h == nil {
		return nil
	}
	if why := h.counting.why.Load(); why != nil {
		return []server.Check{{Name: "redis", OK: true, Detail: "degraded: " + h.counting.without + ": " + (*why).Error()}}
	}
	return []server.Check{{Name: "redis", OK: true, Detail: "counts the requests of keys for all nodes"}}
}

// outage says once when Redis no longer serves a use, and once when it does again.
type outage struct {
	use, without string
	up           *prometheus.GaugeVec
	logger       *slog.Logger
	why          atomic.Pointer[error] // nil: it works, or nobody has tried
}

// note takes what became of a try. Calls must not overlap.
func (o *outage) note(err error) {
	if err == nil {
		o.up.WithLabelValues(o.use).Set(1)
		if o.why.Swap(nil) != nil {
			o.logger.Info("Redis answers again", slog.String("use", o.use))
		}
		return
	}
	o.up.WithLabelValues(o.use).Set(0)
	if o.why.Swap(&err) == nil {
		o.logger.Warn("Redis does not answer, the node works without it", slog.String("use", o.use), slog.String("meanwhile", o.without), slog.Any("err", err))
	}
}
