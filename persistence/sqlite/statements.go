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
	stPutStatus
	stPutPoolSeq
	stPutEvents
	stPutOwner
	stCheckpoint
	numStmts
)

const moveColumns = `state=?2, seq=?3, claim=?4, attempt=?5, replays=?6, generation=?7, boot_id=?8, observed_run_id=?9,
 stopping=?10, cancel_confirmed=?11, due_at=?12, not_after=?13, claimed_at=?14, started_at=?15`

// statements has one text per constant above.
var statements = [numStmts]string{
	stBegin:    `BEGIN IMMEDIATE`,
	stCommit:   `COMMIT`,
	stRollback: `ROLLBACK`,
	stCounters: `SELECT batch, seq, drift FROM counters`,
	stCount:    `UPDATE counters SET batch=?1, seq=?2, drift=?3`,

	stTaskByID:  `SELECT no, state, claim, cancel_at, gateway, finished_at, length(code), error IS NOT NULL, result IS NOT NULL FROM tasks WHERE id=?1`,
	stTaskByKey: `SELECT id, idem_hash FROM tasks WHERE tenant=?1 AND idem_key=?2 AND idem_key IS NOT NULL`,
	stInsertTask: `INSERT OR IGNORE INTO tasks (no, id, tenant, pool, class, session, created_at, idem_key, idem_hash, spec, open,
 state, seq, claim, attempt, replays, generation, boot_id, observed_run_id, stopping, cancel_confirmed, due_at, not_after, claimed_at, started_at,
 gateway, finished_at, ended, code, error, result, cancel_at, cancel_reason)
 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20, ?21, ?22, ?23, ?24, ?25, ?26, ?27, ?28, ?29, ?30, ?31, ?32, ?33)`,
	stInsertSpec:  `INSERT INTO task_specs (no, spec) VALUES (?1, ?2)`,
	stInsertLabel: `INSERT INTO task_labels (no, tenant, key, value) VALUES (?1, ?2, ?3, ?4)`,
	// Three widths of the same update: SQLite rewrites every index that names a
	// column in SET, whether its value changed or not.
	stMoveTask:   `UPDATE tasks SET ` + moveColumns + ` WHERE no=?1`,
	stClaimTask:  `UPDATE tasks SET ` + moveColumns + `, gateway=?16 WHERE no=?1`,
	stSetTask:    `UPDATE tasks SET ` + moveColumns + `, gateway=?16, open=?17, finished_at=?18, ended=?19, code=?20, error=?21, result=?22 WHERE no=?1`,
	stCancelTask: `UPDATE tasks SET cancel_at=?2, cancel_reason=?3 WHERE no=?1`,
	stReadTask:   `SELECT ` + taskColumns + ` FROM tasks WHERE id=?1`,

	stSessionGen: `SELECT generation FROM agent_sessions WHERE id=?1 AND tenant=?2`,
	stPutSession: `INSERT INTO agent_sessions (id, tenant, pool, gateway, generation, replay, state, reason, next_step, restarts, labels, created_at, updated_at)
 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)
 ON CONFLICT (id, tenant) DO UPDATE SET pool=?3, gateway=?4, generation=?5, replay=?6, state=?7, reason=?8, next_step=?9, restarts=?10, labels=?11, created_at=?12, updated_at=?13`,
	stPutStatus: `INSERT OR REPLACE INTO gateway_status (id, tenant, owner, epoch, state, reason, next_step, boot_id, version, "window", running, restarts, pid, since)
 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)`,
	stPutPoolSeq: `INSERT OR REPLACE INTO pool_seqs (pool, seq) VALUES (?1, ?2)`,
	stPutEvents:  `INSERT INTO events (first_seq, last_seq, time, entries) VALUES (?1, ?2, ?3, ?4)`,
	stPutOwner:   `INSERT OR REPLACE INTO ownership (scope, key, owner, epoch) VALUES (?1, ?2, ?3, ?4)`,
	stCheckpoint: `PRAGMA wal_checkpoint(RESTART)`,
}
