package gateway

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/dash-fleet/dash/messages"
)

// Metrics of all gateway actors of a node.
type Metrics struct {
	gateways  *prometheus.GaugeVec
	sessions  *prometheus.GaugeVec
	busy      prometheus.Gauge // of sessions: those with a run
	window    *prometheus.GaugeVec
	running   *prometheus.GaugeVec
	returned  prometheus.Counter
	orphans   prometheus.Counter
	refused   prometheus.Counter
	unlawful  prometheus.Counter
	deaths    *prometheus.CounterVec
	announced prometheus.Counter
	cutTexts  prometheus.Counter
}

// NewMetrics registers the metrics with r; a nil r registers nowhere.
func NewMetrics(r prometheus.Registerer) *Metrics {
	m := &Metrics{
		gateways: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "dash_gateways", Help: "Gateways of this node by state.",
		}, []string{"state"}),
		sessions: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "dash_sessions", Help: "Session actors of this node by state.",
		}, []string{"state"}),
		window: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "dash_gateway_window", Help: "Runs a gateway may hold at once now.",
		}, []string{"gateway"}),
		running: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "dash_gateway_running", Help: "Runs a gateway holds now.",
		}, []string{"gateway"}),
		returned: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "dash_gateway_returned_claims_total", Help: "Claims given back because they were certainly not executed.",
		}),
		orphans: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "dash_gateway_fenced_sessions_total", Help: "Sessions stopped at a gateway that came back after their tasks had moved away.",
		}),
		refused: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "dash_gateway_provider_refusals_total", Help: "Runs that ended because a model provider refused the gateway's key or account, or is switched off for that.",
		}),
		announced: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "dash_gateway_announced_ends_total", Help: "Connections that ended because the gateway said that its process stops or restarts.",
		}),
		cutTexts: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "dash_gateway_cut_texts_total", Help: "Running texts that were cut because their gateway sent more than is kept of one.",
		}),
		unlawful: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "dash_gateway_unlawful_transitions_total", Help: "State changes outside the table: a bug in Dash.",
		}),
	}
	m.deaths = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "dash_gateway_deaths_total", Help: "Ends of gateway processes that nobody asked for while they held work: shared by several tasks, or of one that ran alone.",
	}, []string{"kind"})
	m.busy = m.sessions.WithLabelValues("busy")
	if r != nil {
		r.MustRegister(m.gateways, m.sessions, m.window, m.running, m.returned, m.orphans, m.refused, m.unlawful, m.deaths, m.announced, m.cutTexts)
	}
	return m
}

func (m *Metrics) moved(from, to messages.GatewayState) {
	if from != 0 {
		m.gateways.WithLabelValues(from.String()).Dec()
	}
	if to != 0 {
		m.gateways.WithLabelValues(to.String()).Inc()
	}
}
