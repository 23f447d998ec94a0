package redis

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/persistence"
)

// agentField orders sessions by id, then tenant.
func agentField(tenant, id string) string { return id + "\x00" + tenant }

// encodeSession puts the generation in front, where the script compares it. A
// removed session has no row.
func encodeSession(s *messages.Session) ([]byte, error) {
	if s.State == messages.SessionRemoved {
		return []byte{}, nil
	}
	b, err := json.Marshal(s)
	if err != nil {
		return nil, fmt.Errorf("encode session: %w", err)
	}
	return append(binary.BigEndian.AppendUint64(nil, uint64(s.Generation)), b...), nil
}

func decodeSession(row string) (s messages.Session, err error) {
	if len(row) < 8 {
		return s, fmt.Errorf("decode session: its row in redis is too short")
	}
	if err := json.Unmarshal([]byte(row[8:]), &s); err != nil {
		return s, fmt.Errorf("decode session: %w", err)
	}
	s.CreatedAt, s.UpdatedAt = fromMicros(micros(s.CreatedAt)), fromMicros(micros(s.UpdatedAt))
	return s, nil
}

func encodeStatus(g *messages.GatewayStatus) ([]byte, error) {
	b, err := json.Marshal(g)
	if err != nil {
		return nil, fmt.Errorf("encode gateway status: %w", err)
	}
	return b, nil
}

// Session returns one agent session.
func (db *DB) Session(ctx context.Context, tenant, id string) (messages.Session, error) {
	res, err := db.readTexts(ctx, "HMGET", db.key("agent"), agentField(tenant, id))
	if err != nil {
		return messages.Session{}, err
	}
	if len(res) == 0 || res[0] == "" {
		return messages.Session{}, fmt.Errorf("session %s: %w", id, persistence.ErrNotFound)
	}
	return decodeSession(res[0])
}

// Sessions pages by id, then tenant.
func (db *DB) Sessions(ctx context.Context, tenant, pool, after string, limit int) (list []messages.Session, err error) {
	limit = page(limit)
	from := "-"
	if after != "" {
		id, last := persistence.SplitSessionPlace(after)
		from = "(" + agentField(last, id)
	}
	for {
		fields, err := db.readTexts(ctx, "ZRANGEBYLEX", db.key("agents"), from, "+", "LIMIT", 0, max(limit, 64))
		if err != nil || len(fields) == 0 {
			return list, err
		}
		rows, err := db.readTexts(ctx, append([]any{"HMGET", db.key("agent")}, anys(fields)...)...)
		if err != nil {
			return nil, err
		}
		for _, r := range rows {
			if r == "" {
				continue // gone since its field was read
			}
			s, err := decodeSession(r)
			if err != nil {
				return nil, err
			}
			if (tenant == "" || s.Tenant == tenant) && (pool == "" || s.Pool == pool) {
				if list = append(list, s); len(list) == limit {
					return list, nil
				}
			}
		}
		from = "(" + fields[len(fields)-1]
	}
}

// GatewayStatuses lists the last recorded status of every gateway, by id.
func (db *DB) GatewayStatuses(ctx context.Context) ([]messages.GatewayStatus, error) {
	rows, err := db.readTexts(ctx, "HVALS", db.key("gateway"))
	if err != nil {
		return nil, err
	}
	list := make([]messages.GatewayStatus, len(rows))
	for i, r := range rows {
		d := json.NewDecoder(bytes.NewReader([]byte(r)))
		if err := d.Decode(&list[i]); err != nil {
			return nil, fmt.Errorf("decode gateway status: %w", err)
		}
		list[i].Since = fromMicros(micros(list[i].Since))
	}
	slices.SortFunc(list, func(a, b messages.GatewayStatus) int { return strings.Compare(a.ID, b.ID) })
	return list, nil
}

func anys(list []string) []any {
	out := make([]any, len(list))
	for i, s := range list {
		out[i] = s
	}
	return out
}
