package dispatch

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/dash-fleet/dash/messages"
)

// Metrics of all pools of a node.
type Metrics struct {
	depth       *prometheus.GaugeVec     // pool, class
	oldest      *prometheus.GaugeVec     // pool, class
	tasks       *prometheus.CounterVec   // class, state
	start       *prometheus.HistogramVec // class
	run         *prometheus.HistogramVec // class
	refused     *prometheus.CounterVec   // pool, class, reason
	corrections *prometheus.CounterVec   // pool, what
	stale       *prometheus.CounterVec   // pool, what
	givenBack   *prometheus.CounterVec

	refusedSteps prometheus.Counter
	stashed      prometheus.Counter

	// Of tasks, start and run, looked up once.
	states [numClasses][numStates]prometheus.Counter
	starts [numClasses]prometheus.Observer
	runs   [numClasses]prometheus.Observer
}

var startBuckets = []float64{.001, .002, .005, .01, .02, .05, .1, .2, .5, 1, 2, 5, 10, 30, 60, 300, 900, 3600}

var runBuckets = []float64{.01, .05, .1, .25, .5, 1, 2.5, 5, 10, 20, 30, 60, 120, 300, 600, 1200, 3600}

// NewMetrics registers the metrics with r; a nil r registers nowhere.
func NewMetrics(r prometheus.Registerer) *Metrics {
	gauge := func(name, help string, labels ...string) *prometheus.GaugeVec {
		return prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: name, Help: help}, labels)
	}
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
	}
	histogram := func(name, help string, buckets []float64) *prometheus.HistogramVec {
		return prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: name, Help: help, Buckets: buckets}, []string{"class"})
	}
	m := &Metrics{
		depth:       gauge("dash_queue_depth", "Tasks in the order, by pool and class.", "pool", "class"),
		oldest:      gauge("dash_queue_oldest_seconds", "Age of the first task in the order.", "pool", "class"),
		tasks:       counter("dash_tasks_total", "Tasks that entered a state.", "class", "state"),
		start:       histogram("dash_task_start_seconds", "From entering the order to the gateway's acceptance.", startBuckets),
		run:         histogram("dash_task_run_seconds", "From the gateway's acceptance to the end.", runBuckets),
		refused:     counter("dash_queue_refused_total", "Submits refused at admission.", "pool", "class", "reason"),
		corrections: counter("dash_queue_corrections_total", "Differences to the store that the sweeper mended.", "pool", "what"),
		stale:       counter("dash_queue_stale_total", "Messages dropped because their claim or epoch is over.", "pool", "what"),
		stashed: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "dash_queue_stash_full_total", Help: "Messages dropped because too many waited for a pool to read itself back.",
		}),
	}
	for _, c := range messages.Classes {
		m.starts[c], m.runs[c] = m.start.WithLabelValues(c.String()), m.run.WithLabelValues(c.String())
		for s := messages.Scheduled; s <= messages.Expired; s++ {
			m.states[c][s] = m.tasks.WithLabelValues(c.String(), s.String())
		}
	}
	m.refusedSteps = prometheus.NewCounter(prometheus.CounterOpts{Name: "dash_queue_refused_steps_total", Help: "Steps of tasks that the store said it can never take; each is tried again, at last every 5 minutes."})
	m.givenBack = counter("dash_tasks_given_back_total", "Attempts given back: refused by the gateway, not sent, or taken from one that was away.", "reason")
	if r != nil {
		r.MustRegister(m.givenBack, m.refusedSteps, m.depth, m.oldest, m.tasks, m.start, m.run, m.refused, m.corrections, m.stale, m.stashed)
	}
	return m
}

// Forget drops the series of a pool that is no more.
func (m *Metrics) Forget(pool string) {
	of := prometheus.Labels{"pool": pool}
	for _, v := range []interface {
		DeletePartialMatch(prometheus.Labels) int
	}{m.depth, m.oldest, m.refused, m.corrections, m.stale} {
		v.DeletePartialMatch(of)
	}
}

// entered counts a task that is in a new state.
func (m *Metrics) entered(t *messages.Task) {
	m.states[t.Class][t.State].Inc()
}

// ended observes a task whose attempt is over.
func (m *Metrics) ended(t *messages.Task) {
	if t.StartedAt.IsZero() {
		return
	}
	if t.Attempt <= 1 {
		m.starts[t.Class].Observe(max(0, t.StartedAt.Sub(since(t)).Seconds()))
	}
	if !t.FinishedAt.IsZero() {
		m.runs[t.Class].Observe(max(0, t.FinishedAt.Sub(t.StartedAt).Seconds()))
	}
}
