package tracing

import (
	"context"
	"fmt"
	"log/slog"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
	sdk "go.opentelemetry.io/otel/sdk/trace"
)

// exporter sends spans, counts, and says once that a collector takes none and
// once that it does again.
type exporter struct {
	sdk.SpanExporter
	sending       context.Context //nolint:containedctx // its end ends what is under way
	endpoint      string
	logger        *slog.Logger
	down          atomic.Bool
	sent, dropped prometheus.Counter
}

func newExporter(sending context.Context, to sdk.SpanExporter, endpoint string, logger *slog.Logger) *exporter {
	return &exporter{
		SpanExporter: to, sending: sending, endpoint: endpoint, logger: logger,
		sent:    prometheus.NewCounter(prometheus.CounterOpts{Name: "dash_traces_sent_total", Help: "Spans that the collector of traces has taken."}),
		dropped: prometheus.NewCounter(prometheus.CounterOpts{Name: "dash_traces_dropped_total", Help: "Spans, submits and events that no collector of traces was told of, because it did not answer or was too slow."}),
	}
}

// ExportSpans never fails: what could not be sent is counted.
func (e *exporter) ExportSpans(ctx context.Context, spans []sdk.ReadOnlySpan) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(e.sending, cancel)()
	err := e.SpanExporter.ExportSpans(ctx, spans)
	if err != nil {
		e.dropped.Add(float64(len(spans)))
	} else {
		e.sent.Add(float64(len(spans)))
	}
	switch {
	case err != nil && !e.down.Swap(true):
		e.logger.Warn("traces are lost: the collector does not take them", slog.String("endpoint", e.endpoint), slog.String("err", fmt.Sprintf("%.300s", err)))
	case err == nil && e.down.Swap(false):
		e.logger.Info("traces are taken again", slog.String("endpoint", e.endpoint))
	}
	return nil
}
