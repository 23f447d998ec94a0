package commit

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Metrics of a committer.
type Metrics struct {
	pending prometheus.Gauge
	refused prometheus.Counter
	failed  prometheus.Counter
	invalid prometheus.Counter

	made   time.Time
	oldest atomic.Int64 // when the oldest pending operation came, in ns after made; 0: nothing is pending

	mu      sync.Mutex
	doubt   chan struct{} // closed while inDoubt
	inDoubt bool
}

// NewMetrics registers the committer's metrics with r; a nil r registers nowhere.
func NewMetrics(r prometheus.Registerer) *Metrics {
	m := &Metrics{
		made: time.Now(), doubt: make(chan struct{}),
		pending: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "dash_commit_pending", Help: "Operations that wait for the store.",
		}),
		refused: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "dash_commit_refused_total", Help: "Operations refused because too many waited.",
		}),
		failed: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "dash_commit_failures_total", Help: "Batches that the store did not take.",
		}),
		invalid: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "dash_commit_invalid_total", Help: "Operations that the store can never take; each was answered with its error.",
		}),
	}
	if r != nil {
		r.MustRegister(m.pending, m.refused, m.failed, m.invalid, prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "dash_commit_oldest_seconds", Help: "How long the oldest operation has waited for the store; 0: none waits.",
		}, func() float64 { return m.Oldest().Seconds() }))
	}
	return m
}

// Oldest is how long the oldest operation has waited for the store; 0: none
// waits. It is safe for concurrent use.
func (m *Metrics) Oldest() time.Duration {
	came := m.oldest.Load()
	if came == 0 {
		return 0
	}
	return time.Since(m.made) - time.Duration(came)
}

// InDoubt returns a channel that is closed while nobody knows whether the store
// has taken a batch: who waits for an answer can be told so. It is safe for
// concurrent use.
func (m *Metrics) InDoubt() <-chan struct{} {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.doubt
}

func (m *Metrics) doubts(now bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case now && !m.inDoubt:
		close(m.doubt)
	case !now && m.inDoubt:
		m.doubt = make(chan struct{})
	}
	m.inDoubt = now
}

// since sets the arrival of the oldest operation; the zero time: none waits.
func (m *Metrics) since(t time.Time) {
	if t.IsZero() {
		m.oldest.Store(0)
		return
	}
	m.oldest.Store(max(1, int64(t.Sub(m.made))))
}
