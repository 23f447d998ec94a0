package sqlite

import (
	"database/sql/driver"
	"encoding/json"
	"fmt"
	"math"

	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/persistence"
	"github.com/dash-fleet/dash/persistence/internal/rows"
)

// backupTable is one section of a snapshot.
type backupTable struct {
	section persistence.Section
	table   string
	order   string
	columns string
	n       int // of columns
	read    func(v []driver.Value, emit func(any) error) error
	count   string // how the rows are counted; empty: those of the table
}

// backupTables has every table that holds something of its own. The others
// follow from these: task_specs, task_labels and counters are written with the
// tasks and events, audit_head with the audit.
var backupTables = []backupTable{
	{section: persistence.SectionTenants, table: "tenants", order: "id", n: 4,
		columns: `id, name, created_at, version`,
		read: func(v []driver.Value, emit func(any) error) error {
			return emit(&persistence.Tenant{ID: text(v[0]), Name: text(v[1]), CreatedAt: fromMicros(integer(v[2])), Version: integer(v[3])})
		}},
	{section: persistence.SectionUsers, table: "users", order: "id", n: 7,
		columns: `id, email, password_hash, role, tenant, created_at, version`,
		read: func(v []driver.Value, emit func(any) error) error {
			return emit(&persistence.User{
				ID: text(v[0]), Email: text(v[1]), PasswordHash: []byte(text(v[2])), Role: text(v[3]), Tenant: text(v[4]),
				CreatedAt: fromMicros(integer(v[5])), Version: integer(v[6]),
			})
		}},
	{section: persistence.SectionLogins, table: "sessions", order: "id", n: 5,
		columns: `id, user_id, token_hash, expires_at, created_at`,
		read:    readLogin},
	{section: persistence.SectionKeys, table: "api_keys", order: "id", n: 11,
		columns: `key_id, key_hash, name, tenant, permissions, rate_limit, created_at, expires_at, last_used_at, is_active, version`,
		read:    readKey},
	{section: persistence.SectionAudit, table: "audit", order: "seq", n: 9,
		columns: `seq, time, tenant, actor, action, target, request_id, detail, hash`,
		read:    readAudit},
	{section: persistence.SectionGateways, table: "gateways", order: "id", n: 15,
		columns: gatewayColumns,
		read: func(v []driver.Value, emit func(any) error) error {
			g, err := decodeGateway(v)
			if err != nil {
				return err
			}
			return emit(&g)
		}},
	{section: persistence.SectionPools, table: "pools", order: "id", n: 9,
		columns: `id, tenant, max_concurrency, limits, reserved, aging_seconds, away_seconds, version, created_at`,
		read:    readPool},
	{section: persistence.SectionOwnership, table: "ownership", order: "scope, key", n: 4,
		columns: `scope, key, owner, epoch`,
		read: func(v []driver.Value, emit func(any) error) error {
			return emit(&persistence.Ownership{Scope: persistence.Scope(integer(v[0])), Key: text(v[1]), Owner: text(v[2]), Epoch: integer(v[3])})
		}},
	{section: persistence.SectionPoolSeqs, table: "pool_seqs", order: "pool", n: 2,
		columns: `pool, seq`,
		read: func(v []driver.Value, emit func(any) error) error {
			return emit(&persistence.PoolSeq{Pool: text(v[0]), Seq: integer(v[1])})
		}},
	{section: persistence.SectionStatuses, table: "gateway_status", order: "id", n: 14,
		columns: `id, tenant, owner, epoch, state, reason, next_step, boot_id, version, "window", running, restarts, pid, since`,
		read:    readStatus},
	{section: persistence.SectionSessions, table: "agent_sessions", order: "id, tenant", n: 13,
		columns: sessionColumns,
		read: func(v []driver.Value, emit func(any) error) error {
			s, err := decodeSession(v)
			if err != nil {
				return err
			}
			return emit(&s)
		}},
	{section: persistence.SectionTasks, table: "tasks", order: "no", n: numTaskColumns + 3,
		columns: taskColumns + `, idem_key, idem_hash, ended`,
		read: func(v []driver.Value, emit func(any) error) error {
			t, err := decodeTask(v)
			if err != nil {
				return err
			}
			v = v[numTaskColumns:]
			return emit(&persistence.TaskRow{Task: t, IdemKey: text(v[0]), IdemHash: blob(v[1]), Ended: integer(v[2])})
		}},
	{section: persistence.SectionEvents, table: "events", order: "first_seq", n: 2,
		columns: `first_seq, entries`,
		count:   `SELECT coalesce(sum(last_seq - first_seq + 1), 0) FROM events`,
		read: func(v []driver.Value, emit func(any) error) error {
			events, err := rows.ReadEvents(nil, integer(v[0]), blob(v[1]), 0, math.MaxInt)
			if err != nil {
				return err
			}
			for _, e := range events {
				if err := emit(e); err != nil {
					return err
				}
			}
			return nil
		}},
}

func readLogin(v []driver.Value, emit func(any) error) error {
	s := persistence.LoginSession{ID: text(v[0]), UserID: text(v[1]), ExpiresAt: fromMicros(integer(v[3])), CreatedAt: fromMicros(integer(v[4]))}
	copy(s.TokenHash[:], blob(v[2]))
	return emit(&s)
}

func readKey(v []driver.Value, emit func(any) error) error {
	k := persistence.Key{
		ID: text(v[0]), Hash: []byte(text(v[1])), Name: text(v[2]), Tenant: text(v[3]), RateLimit: int(integer(v[5])), CreatedAt: fromMicros(integer(v[6])),
		ExpiresAt: fromMicros(integer(v[7])), LastUsedAt: fromMicros(integer(v[8])), Active: integer(v[9]) != 0, Version: integer(v[10]),
	}
	if err := json.Unmarshal([]byte(text(v[4])), &k.Permissions); err != nil {
		return fmt.Errorf("key %s: decode permissions: %w", k.ID, err)
	}
	return emit(&k)
}

func readAudit(v []driver.Value, emit func(any) error) error {
	e := persistence.AuditEntry{
		Seq: integer(v[0]), Time: fromMicros(integer(v[1])), Tenant: text(v[2]), Actor: text(v[3]), Action: text(v[4]),
		Target: text(v[5]), RequestID: text(v[6]), Detail: text(v[7]),
	}
	copy(e.Hash[:], blob(v[8]))
	return emit(&e)
}

func readPool(v []driver.Value, emit func(any) error) error {
	p := messages.Pool{
		ID: text(v[0]), Tenant: text(v[1]), MaxConcurrency: int(integer(v[2])), AgingSeconds: int(integer(v[5])), AwaySeconds: int(integer(v[6])),
		Version: integer(v[7]), CreatedAt: fromMicros(integer(v[8])),
	}
	for _, f := range []struct {
		enc string
		to  any
	}{{text(v[3]), &p.Limits}, {text(v[4]), &p.Reserved}} {
		if f.enc == "" {
			continue
		}
		if err := json.Unmarshal([]byte(f.enc), f.to); err != nil {
			return fmt.Errorf("pool %s: decode: %w", p.ID, err)
		}
	}
	return emit(&p)
}

func readStatus(v []driver.Value, emit func(any) error) error {
	return emit(&messages.GatewayStatus{
		ID: text(v[0]), Tenant: text(v[1]), Owner: text(v[2]), Epoch: integer(v[3]), State: messages.GatewayState(integer(v[4])),
		Reason: text(v[5]), NextStep: text(v[6]), BootID: text(v[7]), Version: text(v[8]), Window: int(integer(v[9])),
		Running: int(integer(v[10])), Restarts: int(integer(v[11])), PID: int(integer(v[12])), Since: fromMicros(integer(v[13])),
	})
}

// countRows counts the rows of every section that has some.
func countRows(c *conn) (map[persistence.Section]int64, error) {
	counts := map[persistence.Section]int64{}
	for _, t := range backupTables {
		query := t.count
		if query == "" {
			query = `SELECT count(*) FROM ` + t.table
		}
		n, err := c.one(query)
		if err != nil {
			return nil, fmt.Errorf("count %s: %w", t.section, err)
		}
		if n > 0 {
			counts[t.section] = n
		}
	}
	return counts, nil
}
