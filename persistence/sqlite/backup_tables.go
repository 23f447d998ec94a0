package sqlite

import (
	"database/sql/driver"
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
	{section: persistence.SectionTenants, table: "tenants", order: "id", n: 4, columns: tenantColumns, read: emitted(decodeTenant)},
	{section: persistence.SectionUsers, table: "users", order: "id", n: 7, columns: userColumns, read: emitted(decodeUser)},
	{section: persistence.SectionLogins, table: "sessions", order: "id", n: 5, columns: loginColumns, read: emitted(decodeLogin)},
	{section: persistence.SectionKeys, table: "api_keys", order: "id", n: keyWidth, columns: keyColumns, read: emitted(decodeKey)},
	{section: persistence.SectionAudit, table: "audit", order: "seq", n: 9, columns: auditColumns, read: emitted(decodeAudit)},
	{section: persistence.SectionGateways, table: "gateways", order: "id", n: 16, columns: gatewayColumns, read: emitted(decodeGateway)},
	{section: persistence.SectionPools, table: "pools", order: "id", n: 9, columns: poolColumns, read: emitted(decodePool)},
	{section: persistence.SectionOwnership, table: "ownership", order: "scope, key", n: 4, columns: `scope, key, owner, epoch`,
		read: func(v []driver.Value, emit func(any) error) error {
			return emit(&messages.Ownership{Scope: messages.Scope(integer(v[0])), Key: text(v[1]), Owner: text(v[2]), Epoch: integer(v[3])})
		}},
	{section: persistence.SectionPoolSeqs, table: "pool_seqs", order: "pool", n: 2, columns: `pool, seq`,
		read: func(v []driver.Value, emit func(any) error) error {
			return emit(&persistence.PoolSeq{Pool: text(v[0]), Seq: integer(v[1])})
		}},
	{section: persistence.SectionStatuses, table: "gateway_status", order: "id", n: 14, columns: statusColumns, read: emitted(decodeStatus)},
	{section: persistence.SectionSessions, table: "agent_sessions", order: "id, tenant", n: 13, columns: sessionColumns, read: emitted(decodeSession)},
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

// emitted reads rows as the repositories do.
func emitted[T any](decode func(v []driver.Value) (T, error)) func([]driver.Value, func(any) error) error {
	return func(v []driver.Value, emit func(any) error) error {
		row, err := decode(v)
		if err != nil {
			return err
		}
		return emit(&row)
	}
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
