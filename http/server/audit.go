package server

import (
	"context"
	"encoding/json"
	"log/slog"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/dash-fleet/dash/http/api"
)

const (
	// auditTimeout bounds a write of one row.
	auditTimeout = 2 * time.Second
	// maxAuditPending bounds the rows that wait for a log that does not answer;
	// what is beyond goes to the process's log alone.
	maxAuditPending = 1000
	auditRetry      = time.Second
	// auditStop bounds the last try for all that is pending.
	auditStop = 2 * auditTimeout
	// maxAuditText bounds a recorded value; a longer one is not kept.
	maxAuditText = 1024
)

// auditor writes changes that took place to the audit log, each before it is
// answered. A row that cannot be written then waits in memory and is tried
// again in order: the change is done, and to answer that it failed would be
// wrong. What is left at the end, or does not fit, is logged whole.
type auditor struct {
	log    Audit
	logger *slog.Logger
	lost   prometheus.Counter

	refused refusedLog

	mu      sync.Mutex
	pending []AuditRow
	ended   bool // nothing becomes pending any more
	quit    chan struct{}
	run     sync.WaitGroup
}

func newAuditor(log Audit, logger *slog.Logger) *auditor {
	return &auditor{log: log, logger: logger, lost: prometheus.NewCounter(prometheus.CounterOpts{
		Name: "dash_http_audit_lost_total", Help: "Changes that could not be written to the audit log; the process's log has them.",
	})}
}

func (a *auditor) start() {
	a.quit = make(chan struct{})
	a.run.Go(a.retryLoop)
}

// stop tries what is pending for a last time, also when ctx is over: the time of
// a stop may have been used up by requests.
func (a *auditor) stop(ctx context.Context) {
	if a.quit == nil {
		return
	}
	select {
	case <-a.quit:
		return
	default:
		close(a.quit)
	}
	a.run.Wait()
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), auditStop)
	defer cancel()
	a.retry(last)
	a.recordRefused(last, a.refused.due(time.Now(), true))
	a.mu.Lock()
	defer a.mu.Unlock()
	a.ended = true
	for _, r := range a.pending {
		a.lose(r)
	}
	a.pending = nil
}

func (a *auditor) waiting() float64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	return float64(len(a.pending))
}

// record writes a row, or keeps it for later.
func (a *auditor) record(ctx context.Context, r AuditRow) {
	if a.waiting() == 0 {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), auditTimeout)
		defer cancel()
		err := a.log.Record(ctx, r)
		if err == nil {
			return
		}
		a.logger.Warn("a change waits to be written to the audit log", slog.String("request_id", r.RequestID), slog.String("action", r.Action), slog.Any("err", err))
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.ended || len(a.pending) >= maxAuditPending {
		a.lose(r)
		return
	}
	a.pending = append(a.pending, r)
}

func (a *auditor) lose(r AuditRow) {
	a.lost.Inc()
	a.logger.Error("a change is missing in the audit log", slog.String("actor", r.Actor), slog.String("action", r.Action),
		slog.String("target", r.Target), slog.String("request_id", r.RequestID), slog.Time("at", r.Time), slog.String("detail", r.Detail))
}

func (a *auditor) retryLoop() {
	t := time.NewTicker(auditRetry)
	defer t.Stop()
	for {
		select {
		case <-a.quit:
			return
		case now := <-t.C:
			a.retry(context.Background())
			a.recordRefused(context.Background(), a.refused.due(now, false))
		}
	}
}

// recordRefused writes rows about refusals. One that fails is lost but for a
// line in the log: they are not worth the room of changes.
func (a *auditor) recordRefused(ctx context.Context, rows []AuditRow) {
	for _, r := range rows {
		brief, cancel := context.WithTimeout(ctx, auditTimeout)
		err := a.log.Record(brief, r)
		cancel()
		if err != nil {
			a.logger.Warn("refused requests are missing in the audit log", slog.Int("rows", len(rows)), slog.Any("err", err))
			return
		}
	}
}

// retry writes what is pending, oldest first, until one fails.
func (a *auditor) retry(ctx context.Context) {
	for {
		a.mu.Lock()
		if len(a.pending) == 0 {
			a.mu.Unlock()
			return
		}
		r := a.pending[0]
		a.mu.Unlock()
		brief, cancel := context.WithTimeout(ctx, auditTimeout)
		err := a.log.Record(brief, r)
		cancel()
		if err != nil {
			return // told when it was first tried
		}
		a.mu.Lock()
		a.pending = slices.Delete(a.pending, 0, 1)
		a.mu.Unlock()
	}
}

// kept says whether the value of a body's field may be recorded.
func kept(op *operation, name string) bool { return slices.Contains(op.kept, name) }

func short(v any) bool {
	b, err := json.Marshal(v)
	return err == nil && len(b) <= maxAuditText
}

func (s *Server) listAudit(c *call) error {
	inner, err := c.cursor()
	if err != nil {
		return err
	}
	var before int64
	if inner != "" {
		if before, err = strconv.ParseInt(inner, 10, 64); err != nil || before <= 0 {
			return badCursor()
		}
	}
	h, err := c.weigh(weighList)
	if err != nil {
		return err
	}
	defer h.release()
	limit := c.limit()
	filter := AuditFilter{
		Tenant: c.tenant(), Actor: c.query.Get("actor"), Action: c.query.Get("action"), Target: c.query.Get("target"),
		Since: c.queryTime("since"), Until: c.queryTime("until"), Before: before, Limit: limit + 1,
	}
	rows, err := s.cmd.Audit.Rows(c.ctx(), filter) // one more tells whether there is a next page
	if err != nil {
		return err
	}
	return c.list(min(len(rows), limit), func(i int, _ *api.Long) any { return viewAudit(rows[i]) }, func(sent int) (end pageEnd) {
		if sent < len(rows) {
			end.NextCursor = c.next(strconv.FormatInt(rows[sent-1].Seq, 10))
		}
		return end
	})
}

func viewAudit(r AuditRow) api.AuditRow {
	v := api.AuditRow{
		Seq: r.Seq, Time: r.Time.UTC(), Tenant: text(r.Tenant), Actor: r.Actor, Action: r.Action, Target: r.Target,
		RequestId: r.RequestID, Detail: map[string]any{}, Hash: r.Hash,
	}
	if r.Detail != "" && json.Unmarshal([]byte(r.Detail), &v.Detail) != nil {
		v.Detail = map[string]any{"text": r.Detail} // of a row that was tampered with
	}
	return v
}

func (s *Server) verifyAudit(c *call) error {
	if c.tenant() != "" {
		return otherTenant()
	}
	state, err := s.cmd.Audit.Verify(c.ctx())
	if err != nil {
		return err
	}
	v := api.AuditVerification{Intact: state.BrokenAt == 0, Rows: state.Rows, Head: state.Head, Why: text(state.Why)}
	if state.BrokenAt != 0 {
		v.BrokenAt = &state.BrokenAt
	}
	return c.ok(200, v)
}
