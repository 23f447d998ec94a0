// Package audit is the log of changes between the API, which knows who asks, and
// the store, which keeps a change and its row together.
package audit

import (
	"context"
	"errors"

	"github.com/dash-fleet/dash/http/server"
	"github.com/dash-fleet/dash/persistence"
)

// NewLog is the log that the store keeps.
func NewLog(repo persistence.Audit) Log { return Log{repo} }

// Log implements server.Audit.
type Log struct{ repo persistence.Audit }

// Record implements server.Audit.
func (l Log) Record(ctx context.Context, r server.AuditRow) error {
	_, err := l.repo.Append(ctx, entry(r))
	return err
}

// Rows implements server.Audit.
func (l Log) Rows(ctx context.Context, f server.AuditFilter) ([]server.AuditRow, error) {
	rows, err := l.repo.List(ctx, persistence.AuditFilter(f))
	list := make([]server.AuditRow, len(rows))
	for i, r := range rows {
		list[i] = server.AuditRow{
			Seq: r.Seq, Time: r.Time, Tenant: r.Tenant, Actor: r.Actor, Action: r.Action, Target: r.Target,
			RequestID: r.RequestID, Detail: r.Detail, Hash: r.Hash.String(),
		}
	}
	return list, persistence.Refusal(err, "audit log", "")
}

// Verify implements server.Audit.
func (l Log) Verify(ctx context.Context) (server.AuditState, error) {
	head, err := l.repo.Verify(ctx)
	state := server.AuditState{Rows: head.Seq, Head: head.Hash.String()}
	var broken *persistence.AuditBroken
	if errors.As(err, &broken) {
		state.BrokenAt, state.Why = broken.Seq, broken.Why
		return state, nil
	}
	return state, persistence.Refusal(err, "audit log", "")
}

func entry(r server.AuditRow) persistence.AuditEntry {
	return persistence.AuditEntry{
		Time: r.Time, Tenant: r.Tenant, Actor: r.Actor, Action: r.Action, Target: r.Target, RequestID: r.RequestID, Detail: r.Detail,
	}
}

// Change gives the write of a change its row of the audit log: both are kept
// or neither. before and after hold no secret; nil is a thing that is not there.
func Change(ctx context.Context, target string, before, after map[string]any) context.Context {
	ch := server.ChangeOf(ctx)
	if ch == nil {
		return ctx
	}
	return persistence.WithAudit(ctx, entry(ch.Row(target, before, after)), ch.Keep)
}
