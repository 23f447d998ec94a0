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

// Sessions pages by id, then tenant.
func (db *DB) Sessions(ctx context.Context, tenant, pool, after string, limit int) ([]messages.Session, error) {
	id, last := persistence.SplitSessionPlace(after)
	return db.sessions(ctx, `SELECT data FROM agent_sessions
 WHERE (id, tenant) > ($1, $2) AND ($3::text = '' OR tenant = $3) AND ($4::text = '' OR pool = $4) ORDER BY id, tenant LIMIT $5`, id, last, tenant, pool, page(limit))
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
