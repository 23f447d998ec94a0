package tracing

import (
	"context"
	"encoding/binary"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"github.com/dash-fleet/dash/messages"
)

// spans makes spans. One goroutine uses it.
type spans struct {
	tracer  trace.Tracer
	dropped prometheus.Counter
	open    map[string]begun // by task, while a gateway has it
}

// begun is what is known of an attempt that goes on.
type begun struct {
	claim   uint64
	at      time.Time
	started time.Time // of the run; zero: not yet
}

func newSpans(t trace.Tracer, dropped prometheus.Counter) *spans {
	return &spans{tracer: t, dropped: dropped, open: map[string]begun{}}
}

// event takes a change of a task.
func (s *spans) event(e *messages.Event) {
	c, id := e.GetTask(), e.GetSubject()
	if c == nil || c.GetFrom() == c.GetState() {
		return
	}
	task, err := uuid.Parse(id)
	state, serr := messages.ParseTaskState(c.GetState())
	if err != nil || serr != nil {
		return
	}
	from, _ := messages.ParseTaskState(c.GetFrom()) // a new task has none
	at := time.UnixMicro(e.GetTimeMicros())
	switch {
	case state == messages.Claimed:
		s.begin(id, begun{claim: uint64(max(c.GetClaim(), 0)), at: at})
	case state == messages.Running && from == messages.Claimed:
		if b, ok := s.open[id]; ok {
			b.started = at
			s.open[id] = b
		}
	case from.AtGateway() && !state.AtGateway():
		s.attempt(task, e, at)
	}
	if state.Terminal() {
		s.task(task, e, at)
	}
}

// begin remembers an attempt. Where there is no room, another is forgotten: one
// whose end was dropped would be remembered for ever.
func (s *spans) begin(id string, b begun) {
	for other := range s.open {
		if len(s.open) < maxOpen {
			break
		}
		delete(s.open, other)
		s.dropped.Inc()
	}
	s.open[id] = b
}

// attempt tells of a run that ended. Of one whose begin nobody noted (this node
// took it over, or started meanwhile) the end alone is known.
func (s *spans) attempt(task uuid.UUID, e *messages.Event, at time.Time) {
	c := e.GetTask()
	b, known := s.open[e.GetSubject()]
	delete(s.open, e.GetSubject())
	if !known || b.claim != uint64(max(c.GetClaim(), 0)) {
		b = begun{claim: uint64(max(c.GetClaim(), 0)), at: at}
	}
	if b.claim == 0 {
		return
	}
	_, span := s.tracer.Start(child(task, spanOf(b.claim)), "attempt", trace.WithSpanKind(trace.SpanKindClient), trace.WithTimestamp(b.at), trace.WithAttributes(
		attribute.String("dash.gateway", c.GetGateway()), attribute.String("dash.session", c.GetSession()),
		attribute.Int64("dash.attempt", int64(c.GetAttempt())), attribute.String("dash.run_id", c.GetRunId()), attribute.Bool("dash.begin_known", known),
	))
	if !b.started.IsZero() {
		span.AddEvent("started", trace.WithTimestamp(b.started))
	}
	finish(span, e, at)
}

// task tells of a task that ended. When it began its id says: it is a UUID of version 7.
func (s *spans) task(id uuid.UUID, e *messages.Event, at time.Time) {
	began := at
	if id.Version() == 7 {
		began = time.Unix(id.Time().UnixTime())
	}
	_, span := s.tracer.Start(withIDs(context.Background(), trace.TraceID(id), rootOf(id)), "task", trace.WithTimestamp(began))
	finish(span, e, at)
}

func (s *spans) submitted(id, traceparent string, began, ended time.Time) {
	task, err := uuid.Parse(id)
	if err != nil {
		return
	}
	options := []trace.SpanStartOption{trace.WithSpanKind(trace.SpanKindServer), trace.WithTimestamp(began)}
	client := propagation.TraceContext{}.Extract(context.Background(), propagation.MapCarrier{"traceparent": traceparent})
	if link := trace.SpanContextFromContext(client); link.IsValid() {
		options = append(options, trace.WithLinks(trace.Link{SpanContext: link}))
	}
	random := uuid.New()
	_, span := s.tracer.Start(child(task, trace.SpanID(random[8:])), "submit", options...)
	span.End(trace.WithTimestamp(ended))
}

// finish ends a span with what the event says of the task.
func finish(span trace.Span, e *messages.Event, at time.Time) {
	c := e.GetTask()
	span.SetAttributes(
		attribute.String("dash.tenant", e.GetTenant()), attribute.String("dash.pool", c.GetPool()),
		attribute.String("dash.priority", c.GetClass()), attribute.String("dash.state", c.GetState()),
	)
	if code := c.GetError().GetCode(); code != "" && c.GetState() != messages.Succeeded.String() {
		span.SetAttributes(attribute.String("error.type", code))
		span.SetStatus(codes.Error, code)
	}
	span.End(trace.WithTimestamp(at))
}

// spanOf is the id of an attempt's span; traceParent of package openclaw makes
// the same of the run's id.
func spanOf(claim uint64) (id trace.SpanID) {
	binary.BigEndian.PutUint64(id[:], claim)
	return id
}

// rootOf is the id of a task's span: the random half of its UUID. Claims are
// small numbers, and its first bits are those of the variant, so the two never meet.
func rootOf(task uuid.UUID) trace.SpanID { return trace.SpanID(task[8:]) }

// child is a context for a span with that id below the task's.
func child(task uuid.UUID, id trace.SpanID) context.Context {
	parent := trace.NewSpanContext(trace.SpanContextConfig{TraceID: trace.TraceID(task), SpanID: rootOf(task), TraceFlags: trace.FlagsSampled, Remote: true})
	return withIDs(trace.ContextWithRemoteSpanContext(context.Background(), parent), trace.TraceID(task), id)
}

type idsKey struct{}

type idPair struct {
	trace trace.TraceID
	span  trace.SpanID
}

func withIDs(ctx context.Context, t trace.TraceID, s trace.SpanID) context.Context {
	return context.WithValue(ctx, idsKey{}, idPair{trace: t, span: s})
}

// given is the source of ids: the context says them.
type given struct{}

func (given) NewIDs(ctx context.Context) (trace.TraceID, trace.SpanID) {
	p, _ := ctx.Value(idsKey{}).(idPair)
	return p.trace, p.span
}

func (given) NewSpanID(ctx context.Context, _ trace.TraceID) trace.SpanID {
	p, _ := ctx.Value(idsKey{}).(idPair)
	return p.span
}
