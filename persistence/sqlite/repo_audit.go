package sqlite

import (
	"context"
	"database/sql/driver"

	"github.com/dash-fleet/dash/persistence"
)

type audit struct{ db *DB }

const auditColumns = `seq, time, tenant, actor, action, target, request_id, detail, hash`

// Append adds a row: reading the end of the chain and writing after it are one
// transaction of the only writer.
func (r audit) Append(ctx context.Context, e persistence.AuditEntry) (persistence.AuditEntry, error) {
	err := r.db.w.transact(persistence.WithoutAudit(ctx), func(c *conn) (err error) {
		e, err = appendAudit(c, e)
		return err
	})
	return e, err
}

// appendAudit adds a row inside a transaction.
func appendAudit(c *conn, e persistence.AuditEntry) (persistence.AuditEntry, error) {
	e.Time = fromMicros(micros(e.Time))
	var head persistence.AuditHead
	err := c.query(auditHead, func(v []driver.Value) error { readHead(&head, v); return nil })
	if err != nil {
		return e, err
	}
	e.Seq = head.Seq + 1
	e.Hash = head.Hash.Next(e.Seq, e.Content())
	err = c.text(`INSERT INTO audit (`+auditColumns+`) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)`,
		e.Seq, micros(e.Time), e.Tenant, e.Actor, e.Action, e.Target, e.RequestID, e.Detail, e.Hash[:])
	if err != nil {
		return e, err
	}
	return e, c.text(`UPDATE audit_head SET seq = ?1, hash = ?2`, e.Seq, e.Hash[:])
}

const auditHead = `SELECT seq, hash FROM audit_head`

func readHead(h *persistence.AuditHead, v []driver.Value) {
	h.Seq = integer(v[0])
	copy(h.Hash[:], blob(v[1]))
}

// List returns rows, newest first.
func (r audit) List(ctx context.Context, f persistence.AuditFilter) ([]persistence.AuditEntry, error) {
	where, args := ` WHERE 1`, []any{}
	for _, c := range []struct{ column, value string }{{"tenant", f.Tenant}, {"actor", f.Actor}, {"action", f.Action}, {"target", f.Target}} {
		if c.value != "" {
			where, args = where+` AND `+c.column+` = ?`, append(args, c.value)
		}
	}
	if !f.Since.IsZero() {
		where, args = where+` AND time >= ?`, append(args, micros(f.Since))
	}
	if !f.Until.IsZero() {
		where, args = where+` AND time < ?`, append(args, micros(f.Until))
	}
	if f.Before > 0 {
		where, args = where+` AND seq < ?`, append(args, f.Before)
	}
	return r.list(ctx, where+` ORDER BY seq DESC LIMIT ?`, append(args, f.Page())...)
}

// Verify walks the chain up to its end at the call.
func (r audit) Verify(ctx context.Context) (head persistence.AuditHead, err error) {
	err = r.db.readRows(ctx, func(v []driver.Value) error { readHead(&head, v); return nil }, 2, auditHead)
	if err != nil {
		return head, err
	}
	return persistence.VerifyAudit(ctx, head, func(ctx context.Context, seq int64) ([]persistence.AuditEntry, error) {
		return r.list(ctx, ` WHERE seq > ? ORDER BY seq LIMIT ?`, seq, persistence.MaxAuditPage)
	})
}

func (r audit) list(ctx context.Context, where string, args ...any) ([]persistence.AuditEntry, error) {
	return list(ctx, r.db, decodeAudit, 9, `SELECT `+auditColumns+` FROM audit`+where, args...)
}

func decodeAudit(v []driver.Value) (persistence.AuditEntry, error) {
	e := persistence.AuditEntry{
		Seq: integer(v[0]), Time: fromMicros(integer(v[1])), Tenant: text(v[2]), Actor: text(v[3]), Action: text(v[4]),
		Target: text(v[5]), RequestID: text(v[6]), Detail: text(v[7]),
	}
	copy(e.Hash[:], blob(v[8]))
	return e, nil
}
