package postgres

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/persistence"
)

// Session returns one agent session.
func (db *DB) Session(ctx context.Context, tenant, id string) (messages.Session, error) {
	list, err := db.sessions(ctx, `SELECT data FROM agent_sessions WHERE id = $1 AND tenant = $2`, id, tenant)
	if err != nil {
		return messages.Session{}, err
	}
	if len(list) == 0 {
		return messages.Session{}, fmt.Errorf("session %s: %w", id, persistence.ErrNotFound)
	}
	return list[0], nil
}

// Sessions pages by id. Of several tenants with the same session id all come
// on one page, which may exceed limit by them.
func (db *DB) Sessions(ctx context.Context, tenant, pool, after string, limit int) ([]messages.Session, error) {
	return db.sessions(ctx, `SELECT data FROM agent_sessions WHERE id > $1 AND ($2::text = '' OR tenant = $2) AND ($3::text = '' OR pool = $3)
 ORDER BY id FETCH FIRST $4 ROWS WITH TIES`, after, tenant, pool, page(limit))
}

func (db *DB) sessions(ctx context.Context, query string, args ...any) (list []messages.Session, err error) {
	err = db.rows(ctx, func(v [][]byte) error {
		var s messages.Session
		if err := json.Unmarshal(v[0], &s); err != nil {
			return fmt.Errorf("decode session: %w", err)
		}
		list = append(list, s)
		return nil
	}, query, args...)
	return list, err
}

// GatewayStatuses lists the last recorded status of every gateway, by id.
func (db *DB) GatewayStatuses(ctx context.Context) (list []messages.GatewayStatus, err error) {
	err = db.rows(ctx, func(v [][]byte) error {
		var g messages.GatewayStatus
		if err := json.Unmarshal(v[0], &g); err != nil {
			return fmt.Errorf("decode gateway status: %w", err)
		}
		list = append(list, g)
		return nil
	}, `SELECT data FROM gateway_status ORDER BY id`)
	return list, err
}
