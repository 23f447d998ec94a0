package tracing

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/sdk/resource"
	sdk "go.opentelemetry.io/otel/sdk/trace"

	"github.com/dash-fleet/dash/messages"
)

const (
	maxQueued = 32_768          // events and submits that wait to become spans; an event has about 1 KiB
	maxSpans  = 2048            // spans that wait to be sent
	maxOpen   = 65_536          // attempts whose begin is remembered
	maxAnswer = 64 << 10        // bytes of a collector's answer
	sendTime  = 5 * time.Second // a batch of spans that takes longer is dropped
	lingers   = 3 * time.Second // of Stop, until what is not sent is dropped
)

// Config of a Tracer; all but Registerer is required.
type Config struct {
	Endpoint      string // where the collector takes traces, a URL
	Node, Version string
	Logger        *slog.Logger
	Registerer    prometheus.Registerer
}

// Tracer makes spans of events. A nil Tracer takes everything and does nothing.
// It owns the goroutines of the exporter and one of its own, from Start to Stop.
type Tracer struct {
	in       chan work
	queued   atomic.Int64 // events and submits in it
	stop     chan struct{}
	done     chan struct{}
	cancel   context.CancelFunc // of sending
	provider *sdk.TracerProvider
	dropped  prometheus.Counter
	once     sync.Once
}

// work makes spans of so many events, or of one submit.
type work struct {
	n  int
	do func(*spans)
}

// Start begins to tell. It does not ask whether there is a collector.
func Start(ctx context.Context, cfg Config) (*Tracer, error) {
	client, err := otlptracehttp.New(ctx, otlptracehttp.WithEndpointURL(cfg.Endpoint), otlptracehttp.WithTimeout(sendTime),
		otlptracehttp.WithHTTPClient(&http.Client{Timeout: sendTime, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}),
		otlptracehttp.WithMaxResponseSize(maxAnswer), otlptracehttp.WithRetry(otlptracehttp.RetryConfig{Enabled: false})) // the next batch is the next try
	if err != nil {
		return nil, fmt.Errorf("make an exporter of traces: %w", err)
	}
	sending, cancel := context.WithCancel(context.WithoutCancel(ctx))
	e := newExporter(sending, client, cfg.Endpoint, cfg.Logger)
	t := &Tracer{
		in: make(chan work, maxQueued), stop: make(chan struct{}), done: make(chan struct{}), cancel: cancel, dropped: e.dropped,
		provider: sdk.NewTracerProvider(
			sdk.WithBatcher(e, sdk.WithBlocking(), sdk.WithMaxQueueSize(maxSpans), sdk.WithExportTimeout(sendTime)),
			sdk.WithIDGenerator(given{}), sdk.WithSampler(sdk.AlwaysSample()),
			sdk.WithResource(resource.NewSchemaless(
				attribute.String("service.name", "dash"), attribute.String("service.version", cfg.Version), attribute.String("service.instance.id", cfg.Node),
			)),
		),
	}
	if cfg.Registerer != nil {
		for _, c := range []prometheus.Collector{e.dropped, e.sent} {
			if err := cfg.Registerer.Register(c); err != nil {
				return nil, fmt.Errorf("register metrics of traces: %w", err)
			}
		}
	}
	go t.run()
	return t, nil
}

// Note takes the events of a committed batch. It never waits.
func (t *Tracer) Note(events []*messages.Event) {
	if t == nil || len(events) == 0 {
		return
	}
	t.put(work{len(events), func(s *spans) {
		for _, e := range events {
			s.event(e)
		}
	}})
}

// Submitted takes a request that made a task, with the traceparent that the
// client sent, if any. It never waits.
func (t *Tracer) Submitted(id, traceparent string, began time.Time) {
	if t == nil {
		return
	}
	ended := time.Now()
	t.put(work{1, func(s *spans) { s.submitted(id, traceparent, began, ended) }})
}

// put queues work, or drops it where there is no room for all of it.
func (t *Tracer) put(w work) {
	if t.queued.Add(int64(w.n)) > maxQueued {
		t.queued.Add(-int64(w.n))
		t.dropped.Add(float64(w.n))
		return
	}
	t.in <- w // as there is no more work than maxQueued
}

func (t *Tracer) do(w work, s *spans) {
	w.do(s)
	t.queued.Add(-int64(w.n))
}

func (t *Tracer) run() {
	defer close(t.done)
	s := newSpans(t.provider.Tracer("github.com/dash-fleet/dash"), t.dropped)
	for {
		select {
		case w := <-t.in:
			t.do(w, s)
		case <-t.stop:
			for { // what came before Stop
				select {
				case w := <-t.in:
					t.do(w, s)
				default:
					return
				}
			}
		}
	}
}

// Stop sends what is left, for at most 3 s. It is idempotent. Nothing may be
// put in after it.
func (t *Tracer) Stop(ctx context.Context) (err error) {
	if t == nil {
		return nil
	}
	t.once.Do(func() {
		late := time.AfterFunc(lingers, t.cancel)
		defer late.Stop()
		close(t.stop)
		<-t.done
		err = t.provider.Shutdown(ctx)
		t.cancel()
	})
	return err
}
