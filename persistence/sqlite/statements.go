package sqlite

// The writer's statements, kept prepared.
const (
	stBegin = iota
	stCommit
	stRollback
	stCounters
	stCount
	stTaskByID
	stTaskByKey
	stInsertTask
	stInsertSpec
	stInsertLabel
	stMoveTask
	stClaimTask
	stSetTask
	stCancelTask
	stReadTask
	stSessionGen
	stPutSession
	stRemoveSession
	stPutStatus
	stPutPoolSeq
	stPutEvents
	stPutOwner
	stCheckpoint
	numStmts
)

// statements has one text per constant above.
var statements = [numStmts]string{
	stBegin:    `BEGIN IMMEDIATE`,
	stCommit:   `COMMIT`,
	stRollback: `ROLLBACK`,
	stCounters: `SELECT batch, seq, drift FROM counters`,
	stCount:    `UPDATE counters SET batch=?, seq=?, drift=?`,

	stTaskByID:  `SELECT no, state, claim, cancel_at, gateway, finished_at <> 0 OR code <> '' FROM tasks WHERE id=?`,
	stTaskByKey: `SELECT id, idem_hash FROM tasks WHERE tenant=? AND idem_key=? AND idem_key IS NOT NULL`,
	stInsertTask: `INSERT OR IGNORE INTO tasks (no, id, tenant, pool, class, session, created_at, idem_key, idem_hash, spec, open,
 state, seq, claim, gateway, cancel_at, cancel_reason, finished_at, ended, code, run)
 VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
	stInsertSpec:  `INSERT INTO task_specs (no, spec) VALUES (?, ?)`,
	stInsertLabel: `INSERT INTO task_labels (no, tenant, key, value) VALUES (?, ?, ?, ?)`,
	// Parameters have no numbers: the driver looks the name of a numbered one up
	// at every use. Three widths of the same update: SQLite rewrites every index that names a
	// column in SET, whether its value changed or not.
	stMoveTask:   `UPDATE tasks SET state=?, seq=?, claim=?, run=? WHERE no=?`,
	stClaimTask:  `UPDATE tasks SET state=?, seq=?, claim=?, run=?, gateway=? WHERE no=?`,
	stSetTask:    `UPDATE tasks SET state=?, seq=?, claim=?, run=?, gateway=?, open=?, finished_at=?, ended=?, code=? WHERE no=?`,
	stCancelTask: `UPDATE tasks SET cancel_at=?, cancel_reason=? WHERE no=?`,
	stReadTask:   `SELECT ` + taskColumns + ` FROM tasks WHERE id=?`,

	stSessionGen: `SELECT generation FROM agent_sessions WHERE id=? AND tenant=?`,
	stPutSession: `INSERT INTO agent_sessions (id, tenant, pool, gateway, generation, replay, state, reason, next_step, restarts, labels, created_at, updated_at)
 VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
 ON CONFLICT (id, tenant) DO UPDATE SET pool=excluded.pool, gateway=excluded.gateway, generation=excluded.generation, replay=excluded.replay,
 state=excluded.state, reason=excluded.reason, next_step=excluded.next_step, restarts=excluded.restarts, labels=excluded.labels,
 created_at=excluded.created_at, updated_at=excluded.updated_at`,
	stRemoveSession: `DELETE FROM agent_sessions WHERE id=? AND tenant=?`,
	stPutStatus: `INSERT OR REPLACE INTO gateway_status (id, tenant, owner, epoch, state, reason, next_step, boot_id, version, "window", running, restarts, pid, since)
 VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
	stPutPoolSeq: `INSERT OR REPLACE INTO pool_seqs (pool, seq) VALUES (?, ?)`,
	stPutEvents:  `INSERT INTO events (first_seq, last_seq, time, entries) VALUES (?, ?, ?, ?)`,
	stPutOwner:   `INSERT OR REPLACE INTO ownership (scope, key, owner, epoch) VALUES (?, ?, ?, ?)`,
	stCheckpoint: `PRAGMA wal_checkpoint(RESTART)`,
}
