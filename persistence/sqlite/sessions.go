package sqlite

import (
	"context"
	"database/sql/driver"
	"encoding/json"
	"fmt"

	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/persistence"
)

const sessionColumns = `id, tenant, pool, gateway, generation, replay, state, reason, next_step, restarts, labels, created_at, updated_at`

func decodeSession(v []driver.Value) (messages.Session, error) {
	s := messages.Session{
		ID: text(v[0]), Tenant: text(v[1]), Pool: text(v[2]), Gateway: text(v[3]), Generation: integer(v[4]), Replay: integer(v[5]) != 0,
		State: messages.SessionState(integer(v[6])), Reason: text(v[7]), NextStep: text(v[8]), Restarts: int(integer(v[9])),
		CreatedAt: fromMicros(integer(v[11])), UpdatedAt: fromMicros(integer(v[12])),
	}
	if labels := text(v[10]); labels != "" {
		if err := json.Unmarshal([]byte(labels), &s.Labels); err != nil {
			return s, fmt.Errorf("session %s: decode labels: %w", s.ID, err)
		}
	}
	return s, nil
}

// Session returns one agent session.
func (db *DB) Session(ctx context.Context, tenant, id string) (messages.Session, error) {
	list, err := db.sessions(ctx, `SELECT `+sessionColumns+` FROM agent_sessions WHERE id = ? AND tenant = ?`, id, tenant)
	if err != nil {
		return messages.Session{}, err
	}
	if len(list) == 0 {
		return messages.Session{}, fmt.Errorf("session %s: %w", id, persistence.ErrNotFound)
	}
	return list[0], nil
}

// Sessions pages by id, then tenant.
func (db *DB) Sessions(ctx context.Context, tenant, pool, after string, limit int) ([]messages.Session, error) {
	id, last := persistence.SplitSessionPlace(after)
	return db.sessions(ctx, `SELECT `+sessionColumns+` FROM agent_sessions
 WHERE (id, tenant) > (?1, ?2) AND (?3 = '' OR tenant = ?3) AND (?4 = '' OR pool = ?4) ORDER BY id, tenant LIMIT ?5`, id, last, tenant, pool, page(limit))
}

func (db *DB) sessions(ctx context.Context, query string, args ...any) ([]messages.Session, error) {
	return list(ctx, db, decodeSession, 13, query, args...)
}

const statusColumns = `id, tenant, owner, epoch, state, reason, next_step, boot_id, version, "window", running, restarts, pid, since`

// GatewayStatuses lists the last recorded status of every gateway, by id.
func (db *DB) GatewayStatuses(ctx context.Context) ([]messages.GatewayStatus, error) {
	return list(ctx, db, decodeStatus, 14, `SELECT `+statusColumns+` FROM gateway_status ORDER BY id`)
}

func decodeStatus(v []driver.Value) (messages.GatewayStatus, error) {
	return messages.GatewayStatus{
		ID: text(v[0]), Tenant: text(v[1]), Owner: text(v[2]), Epoch: integer(v[3]), State: messages.GatewayState(integer(v[4])),
		Reason: text(v[5]), NextStep: text(v[6]), BootID: text(v[7]), Version: text(v[8]), Window: int(integer(v[9])),
		Running: int(integer(v[10])), Restarts: int(integer(v[11])), PID: int(integer(v[12])), Since: fromMicros(integer(v[13])),
	}, nil
}
