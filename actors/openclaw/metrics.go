package openclaw

import "github.com/prometheus/client_golang/prometheus"

// Labels of dash_openclaw_frames_ignored_total.
const (
	ignoredGarbage   = "garbage"    // not JSON, not an object, unknown type
	ignoredDepth     = "depth"      // nested too deep
	ignoredBinary    = "binary"     // not a text frame
	ignoredUnknownID = "unknown_id" // an answer to a request never made
	ignoredLate      = "late"       // an answer to a request that is over
	ignoredDuplicate = "duplicate"  // a second accepted for one request
	ignoredEvent     = "event"      // a known event with an unusable payload
	ignoredSize      = "size"       // an answer larger than its method's ever is
)

// Metrics are the counters of all connections that share it.
type Metrics struct {
	ignored  *prometheus.CounterVec
	frames   *prometheus.CounterVec
	bytes    *prometheus.CounterVec
	connects *prometheus.CounterVec
	closes   *prometheus.CounterVec
	answers  *prometheus.CounterVec
	unknown  prometheus.Counter
	gaps     prometheus.Counter
	paced    prometheus.Counter
	open     prometheus.Gauge
}

// NewMetrics registers the counters; a nil Registerer leaves them unregistered.
// Register once per process.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	vec := func(name, help, label string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, []string{label})
	}
	m := &Metrics{
		ignored:  vec("dash_openclaw_frames_ignored_total", "Incoming frames that were ignored, by reason.", "reason"),
		frames:   vec("dash_openclaw_frames_total", "Frames by direction.", "direction"),
		bytes:    vec("dash_openclaw_frame_bytes_total", "Frame bytes by direction.", "direction"),
		connects: vec("dash_openclaw_connects_total", "Connection attempts by result.", "result"),
		closes:   vec("dash_openclaw_closes_total", "Ended connections by cause.", "cause"),
		answers:  vec("dash_openclaw_agent_answers_total", "Answers to agent requests by kind.", "kind"),
		unknown: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "dash_openclaw_unknown_events_total", Help: "Events whose name is not known."}),
		gaps: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "dash_openclaw_event_gaps_total", Help: "Holes in a connection's event numbers: the gateway dropped events."}),
		paced: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "dash_openclaw_paced_seconds_total", Help: "Seconds for which gateways were not read because they sent too much."}),
		open: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "dash_openclaw_connections", Help: "Open gateway connections."}),
	}
	if reg != nil {
		reg.MustRegister(m.ignored, m.frames, m.bytes, m.connects, m.closes, m.answers, m.unknown, m.gaps, m.paced, m.open)
	}
	return m
}

func (m *Metrics) in(n int) {
	m.frames.WithLabelValues("in").Inc()
	m.bytes.WithLabelValues("in").Add(float64(n))
}

func (m *Metrics) out(n int) {
	m.frames.WithLabelValues("out").Inc()
	m.bytes.WithLabelValues("out").Add(float64(n))
}

func (m *Metrics) ignore(reason string) { m.ignored.WithLabelValues(reason).Inc() }
