package server

import (
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	seconds *prometheus.HistogramVec
	panics  prometheus.Counter
	limited prometheus.Counter
	// undrained counts bodies of refused requests that were cut.
	undrained prometheus.Counter

	known sync.Map // seriesKey -> prometheus.Observer: the set is closed and small
}

type seriesKey struct {
	route, method string
	status        int
}

var methods = []string{
	http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete, http.MethodOptions,
}

func newMetrics(r prometheus.Registerer, s *Server) (*metrics, error) {
	m := &metrics{
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "dash_http_request_seconds",
			Help:    "Time to answer a request, by route template. Long-polls and streams count with their whole life.",
			Buckets: []float64{.0005, .001, .002, .005, .01, .02, .05, .1, .2, .5, 1, 5, 30},
		}, []string{"route", "method", "status"}),
		panics:    prometheus.NewCounter(prometheus.CounterOpts{Name: "dash_http_panics_total", Help: "Handlers that panicked."}),
		limited:   prometheus.NewCounter(prometheus.CounterOpts{Name: "dash_http_rate_limited_total", Help: "Requests refused because their key, or all keys of its tenant, had used up the limit per minute."}),
		undrained: prometheus.NewCounter(prometheus.CounterOpts{Name: "dash_http_bodies_cut_total", Help: "Refused requests whose body was too long or too slow to be read to its end; their clients may see a broken connection in place of the refusal."}),
	}
	if r == nil {
		return m, nil
	}
	all := []prometheus.Collector{m.seconds, m.panics, m.limited, m.undrained, s.audit.lost, prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "dash_http_audit_pending", Help: "Changes that took place and wait to be written to the audit log.",
	}, s.audit.waiting), prometheus.NewCounterFunc(prometheus.CounterOpts{
		Name: "dash_http_accept_failures_total", Help: "Connections that the system did not give, above all for want of file descriptors.",
	}, func() float64 { return float64(s.accept.failed.Load()) })}
	all = append(all, s.lobby.crowded, s.accept.connections.dropped, prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "dash_http_body_bytes", Help: "Memory taken by bodies that arrive or are worked on.",
	}, s.bodies.taken))
	all = append(all, prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "dash_http_page_bytes", Help: "What lists and long tasks hold in memory until they are sent, or are going to be read into, in bytes.",
	}, s.answers.taken), prometheus.NewCounterFunc(prometheus.CounterOpts{
		Name: "dash_http_pages_refused_total", Help: "Lists and long tasks refused with 503 because others held the memory for them.",
	}, s.answers.refusals))
	all = append(all, prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "dash_http_remembered_bytes", Help: "What the answers take that are kept for a repetition of their Idempotency-Key.",
	}, func() float64 { n, _ := s.replies.state(); return float64(n) }), prometheus.NewCounterFunc(prometheus.CounterOpts{
		Name: "dash_http_remembered_lost_total", Help: "Answers that were forgotten before their time, to make room for others of the same tenant.",
	}, func() float64 { _, n := s.replies.state(); return float64(n) }))
	for of := range standings {
		all = append(all, prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "dash_http_connections", Help: "Connections, by what they have shown: stranger (no valid credential), known, reserved (beyond the bound, for probes).",
			ConstLabels: prometheus.Labels{"standing": of.String()},
		}, func() float64 { return float64(s.accept.connections.count(of)) }))
	}
	for kind, taken := range map[string]func() int{"request": s.requests.taken, "wait": s.waits.taken, "stream": s.streams.taken, "guest": s.lobby.taken, "hash": s.hashes.taken} {
		all = append(all, prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "dash_http_in_flight", Help: "Requests being answered, by kind; guest: WebSockets that have not said who they are.", ConstLabels: prometheus.Labels{"kind": kind},
		}, func() float64 { return float64(taken()) }))
	}
	for _, c := range all {
		if err := r.Register(c); err != nil {
			return nil, fmt.Errorf("register server metrics: %w", err)
		}
	}
	return m, nil
}

// observe counts an answer. Labels come from closed sets: templates, known
// methods, our own statuses.
func (m *metrics) observe(route, method string, status int, d time.Duration) {
	if !slices.Contains(methods, method) {
		method = "other"
	}
	k := seriesKey{route, method, status}
	if o, ok := m.known.Load(k); ok {
		o.(prometheus.Observer).Observe(d.Seconds())
		return
	}
	o := m.seconds.WithLabelValues(route, method, strconv.Itoa(status))
	m.known.Store(k, o)
	o.Observe(d.Seconds())
}
