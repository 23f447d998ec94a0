package postgres

import (
	"context"
	"time"

	"github.com/dash-fleet/dash/persistence"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

type audit struct{ db *DB }

const auditColumns = `seq, time, tenant, actor, action, target, request_id, detail, hash`

func readAudit(row pgx.CollectableRow) (e persistence.AuditEntry, err error) {
	var hash []byte
	err = row.Scan(&e.Seq, &e.Time, &e.Tenant, &e.Actor, &e.Action, &e.Target, &e.RequestID, &e.Detail, &hash)
	copy(e.Hash[:], hash)
	e.Time = e.Time.UTC()
	return e, err
}

// Append adds a row in one statement: the update of the chain's end makes
// writers of all nodes go one after the other.
func (r audit) Append(ctx context.Context, e persistence.AuditEntry) (persistence.AuditEntry, error) {
	e.Time = e.Time.Truncate(time.Microsecond)
	return rowOf(persistence.WithoutAudit(ctx), r.db, "append to the audit log", readAudit, appendAudit, auditValues(e)...)
}

const appendAudit = `WITH head AS (
  UPDATE audit_head SET seq = seq + 1, hash = sha256(hash || int8send(seq + 1) || $8::bytea) RETURNING seq, hash)
 INSERT INTO audit (` + auditColumns + `) SELECT seq, $1, $2, $3, $4, $5, $6, $7, hash FROM head RETURNING ` + auditColumns

func auditValues(e persistence.AuditEntry) []any {
	return []any{e.Time, e.Tenant, e.Actor, e.Action, e.Target, e.RequestID, e.Detail, e.Content()}
}

// audited runs a statement, and if it changed a row, appends the row of the audit
// log that ctx brings, in one transaction.
func audited[T any](ctx context.Context, pool *pgxpool.Pool, read pgx.RowToFunc[T], query string, args []any) (list []T, err error) {
	done := func() {}
	err = pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
		rows, err := tx.Query(ctx, query, args...)
		if err != nil {
			return err
		}
		if list, err = pgx.CollectRows(rows, read); err != nil || len(list) == 0 {
			return err
		}
		done, err = appendIn(ctx, tx)
		return err
	})
	if err == nil {
		done()
	}
	return list, err
}

// appendIn appends the row that ctx brings, if any. done is to be called when
// the transaction is durable.
func appendIn(ctx context.Context, tx pgx.Tx) (done func(), err error) {
	e, done, is := persistence.AuditOf(ctx)
	if !is {
		return func() {}, nil
	}
	e.Time = e.Time.Truncate(time.Microsecond)
	_, err = tx.Exec(ctx, appendAudit, auditValues(e)...)
	return done, err
}

// List returns rows, newest first.
func (r audit) List(ctx context.Context, f persistence.AuditFilter) ([]persistence.AuditEntry, error) {
	return rowsOf(ctx, r.db, "list the audit log", readAudit, `SELECT `+auditColumns+` FROM audit
 WHERE ($1 = '' OR tenant = $1) AND ($2::bigint <= 0 OR seq < $2) AND ($4 = '' OR actor = $4) AND ($5 = '' OR action = $5) AND ($6 = '' OR target = $6)
  AND ($7::timestamptz IS NULL OR time >= $7) AND ($8::timestamptz IS NULL OR time < $8) ORDER BY seq DESC LIMIT $3`,
		f.Tenant, f.Before, f.Page(), f.Actor, f.Action, f.Target, orNull(f.Since), orNull(f.Until))
}

// Verify walks the chain up to its end at the call.
func (r audit) Verify(ctx context.Context) (persistence.AuditHead, error) {
	head, err := rowOf(ctx, r.db, "read the end of the audit log", func(row pgx.CollectableRow) (h persistence.AuditHead, err error) {
		var hash []byte
		err = row.Scan(&h.Seq, &hash)
		copy(h.Hash[:], hash)
		return h, err
	}, `SELECT seq, hash FROM audit_head`)
	if err != nil {
		return head, err
	}
	return persistence.VerifyAudit(ctx, head, func(ctx context.Context, seq int64) ([]persistence.AuditEntry, error) {
		return rowsOf(ctx, r.db, "read the audit log", readAudit, `SELECT `+auditColumns+` FROM audit WHERE seq > $1 ORDER BY seq LIMIT $2`, seq, persistence.MaxAuditPage)
	})
}
