package server

import (
	"context"
	"io"
	"log/slog"
	"time"

	"github.com/dash-fleet/dash/messages"
)

// Refusals bounds the lines about refused requests.
type Refusals struct{ r refusals }

// NewRefusals returns one with a bound of its own.
func NewRefusals(perSecond int) *Refusals { return &Refusals{refusals{bound: perSecond}} }

// Allow is that of the server.
func (r *Refusals) Allow(status int, now time.Time) (bool, uint64) { return r.r.allow(status, now) }

// MaxAuditPending is the bound of what waits for the audit log.
const MaxAuditPending = maxAuditPending

// TestAuditor is an auditor that a test moves by hand.
type TestAuditor struct{ a *auditor }

// NewTestAuditor returns an auditor without goroutine.
func NewTestAuditor(log Audit, w io.Writer) TestAuditor {
	return TestAuditor{newAuditor(log, slog.New(slog.NewTextHandler(w, nil)))}
}

// Record, Retry and Waiting are those of the auditor.
func (t TestAuditor) Record(ctx context.Context, r AuditRow) { t.a.record(ctx, r) }
func (t TestAuditor) Retry(ctx context.Context)              { t.a.retry(ctx) }
func (t TestAuditor) Waiting() int                           { return int(t.a.waiting()) }

// Stop is that of an auditor that was started.
func (t TestAuditor) Stop(ctx context.Context) {
	t.a.quit = make(chan struct{})
	t.a.stop(ctx)
}

// RefusedLog is what collects refused requests for the audit log.
type RefusedLog struct{ l refusedLog }

// Note counts a refusal of an address.
func (r *RefusedLog) Note(address string, status int, code messages.Code, now time.Time) {
	r.l.note(refusedKind{actor: "anonymous", action: "listTasks", address: address, status: status}, code, AuditRow{Time: now})
}

// Due is that of the server.
func (r *RefusedLog) Due(now time.Time, last bool) []AuditRow { return r.l.due(now, last) }

// InLineForHashes is how many requests make a hash or wait to make one.
func (s *Server) InLineForHashes() (n int) {
	s.hashes.mu.Lock()
	defer s.hashes.mu.Unlock()
	for _, own := range s.hashes.by {
		n += own.users
	}
	return n
}
