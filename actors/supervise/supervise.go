// Package supervise holds the one restart strategy of Dash: doubling delays
// with jitter and a cap, a window that counts failures, and an end, after
// which the child is stopped and its parent is told. protoactor's own
// strategies restart without delay or without end.
//
// A Strategy belongs to one parent actor: HandleFailure runs on the parent's
// turn, so its state needs no lock.
package supervise

import (
	"fmt"
	"log/slog"
	"math/rand/v2"
	"runtime/debug"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	"github.com/prometheus/client_golang/prometheus"
)

// Config of a strategy.
type Config struct {
	Kind    string // label of the metric and of log lines: pool, gateway, session, …
	Initial time.Duration
	Max     time.Duration
	// More than Limit failures inside Window end the child; Limit 0 means no end.
	Limit  int
	Window time.Duration
	// GiveUp is called on the parent's turn after the child was told to stop.
	GiveUp func(child *actor.PID, reason any)
	// Restarting is called on the parent's turn when a restart is planned.
	Restarting func(child *actor.PID, reason any, failures int, after time.Duration)
	Logger     *slog.Logger
	Restarts   *prometheus.CounterVec // label kind; nil: not counted
}

// Strategy implements actor.SupervisorStrategy.
type Strategy struct {
	cfg      Config
	failures map[string][]time.Time
}

// New returns a strategy for one parent.
func New(cfg Config) *Strategy {
	return &Strategy{cfg: cfg, failures: map[string][]time.Time{}}
}

// NewCounter returns dash_actor_restarts_total{kind}, which all strategies share.
func NewCounter(r prometheus.Registerer) *prometheus.CounterVec {
	c := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "dash_actor_restarts_total", Help: "Restarts of supervised actors by kind.",
	}, []string{"kind"})
	if r != nil {
		r.MustRegister(c)
	}
	return c
}

// HandleFailure plans a restart of the child, or ends it.
func (s *Strategy) HandleFailure(system *actor.ActorSystem, parent actor.Supervisor, child *actor.PID, _ *actor.RestartStatistics, reason, message any) {
	n := s.fail(child.Id, time.Now())
	if s.cfg.Limit > 0 && n > s.cfg.Limit {
		s.log().Error("actor gave up", slog.String("kind", s.cfg.Kind), slog.String("actor", child.Id),
			slog.Int("failures", n), slog.String("reason", fmt.Sprint(reason)))
		s.Forget(child)
		parent.StopChildren(child)
		if s.cfg.GiveUp != nil {
			s.cfg.GiveUp(child, reason)
		}
		return
	}
	delay := Delay(s.cfg.Initial, s.cfg.Max, n, rand.Float64())
	if s.cfg.Restarts != nil {
		s.cfg.Restarts.WithLabelValues(s.cfg.Kind).Inc()
	}
	s.log().Warn("actor failed and will be restarted", slog.String("kind", s.cfg.Kind), slog.String("actor", child.Id),
		slog.Int("failures", n), slog.Duration("after", delay), slog.String("reason", fmt.Sprint(reason)),
		slog.String("message_type", fmt.Sprintf("%T", message)))
	if s.cfg.Restarting != nil {
		s.cfg.Restarting(child, reason, n, delay)
	}
	// The failed child's mailbox stays suspended until then; messages wait.
	time.AfterFunc(delay, func() { parent.RestartChildren(child) })
}

// Forget drops what is remembered of a child that is gone for good.
func (s *Strategy) Forget(child *actor.PID) { delete(s.failures, child.Id) }

// fail records a failure and returns how many fell into the window.
func (s *Strategy) fail(id string, now time.Time) int {
	kept := s.failures[id][:0]
	for _, t := range s.failures[id] {
		if now.Sub(t) < s.cfg.Window {
			kept = append(kept, t)
		}
	}
	s.failures[id] = append(kept, now)
	return len(s.failures[id])
}

func (s *Strategy) log() *slog.Logger {
	if s.cfg.Logger == nil {
		return slog.Default()
	}
	return s.cfg.Logger
}

// Delay is the pause before the n-th restart (n from 1): initial doubled n-1
// times, at most limit, spread by +-20 % with random in [0,1).
func Delay(initial, limit time.Duration, n int, random float64) time.Duration {
	d := initial
	for i := 1; i < n && d < limit; i++ {
		d *= 2
	}
	d = min(d, limit)
	return time.Duration(float64(d) * (0.8 + 0.4*random))
}

// LogPanic, deferred at the top of a Receive, logs a panic with its stack and
// lets it go on to the strategy: protoactor drops the stack.
func LogPanic(logger *slog.Logger, ctx actor.Context) {
	r := recover()
	if r == nil {
		return
	}
	logger.Error("actor panicked", slog.String("actor", ctx.Self().Id),
		slog.String("reason", fmt.Sprint(r)), slog.String("stack", string(debug.Stack())))
	panic(r)
}
