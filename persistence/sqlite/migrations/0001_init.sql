-- Times are integer microseconds since 1970 UTC, 0 means "not set"; states and
-- classes are the numbers of package messages, which are durable from here on.
-- A migration only adds (expand). What removes something must come one release
-- later and must raise schema_compat.min_binary, so that the binary before it
-- refuses to run on what it cannot read.

-- +goose Up
CREATE TABLE schema_compat (
  one        INTEGER PRIMARY KEY CHECK (one = 1),
  min_binary INTEGER NOT NULL,
  shards     INTEGER NOT NULL
) STRICT;
INSERT INTO schema_compat (one, min_binary, shards) VALUES (1, 1, 64);

-- One row, written in every batch: batch tells after a failed COMMIT whether it
-- took place, seq is the newest event, drift bounds tasks.no - tasks.created_at.
CREATE TABLE counters (
  one   INTEGER PRIMARY KEY CHECK (one = 1),
  batch INTEGER NOT NULL,
  seq   INTEGER NOT NULL,
  drift INTEGER NOT NULL
) STRICT;
INSERT INTO counters (one, batch, seq, drift) VALUES (1, 0, 0, 0);

-- no grows in commit order and is never less than created_at, so it orders
-- lists and bounds time ranges. "open" is 1 until the task is terminal, then
-- NULL; it exists so that a change of state does not touch the open index.
-- run holds in protobuf encoding (run.go) what no query asks for: a narrow row
-- halves the cost of each of the three updates in the life of a task.
CREATE TABLE tasks (
  no               INTEGER PRIMARY KEY,
  id               TEXT    NOT NULL,
  tenant           TEXT    NOT NULL,
  pool             TEXT    NOT NULL,
  class            INTEGER NOT NULL,
  session          TEXT    NOT NULL,
  created_at       INTEGER NOT NULL,
  idem_key         TEXT,
  idem_hash        BLOB,
  spec             BLOB,
  open             INTEGER,
  state            INTEGER NOT NULL,
  seq              INTEGER NOT NULL,
  claim            INTEGER NOT NULL,
  gateway          TEXT    NOT NULL,
  cancel_at        INTEGER NOT NULL,
  cancel_reason    TEXT    NOT NULL,
  finished_at      INTEGER NOT NULL,
  ended            INTEGER NOT NULL,
  code             TEXT    NOT NULL,
  run              BLOB    NOT NULL
) STRICT;
CREATE UNIQUE INDEX tasks_id ON tasks (id);
CREATE UNIQUE INDEX tasks_idem ON tasks (tenant, idem_key) WHERE idem_key IS NOT NULL;
CREATE INDEX tasks_open ON tasks (pool, id) WHERE open = 1;
CREATE INDEX tasks_gateway ON tasks (gateway, no) WHERE gateway <> '';
CREATE INDEX tasks_failed ON tasks (state, no) WHERE state >= 10;
CREATE INDEX tasks_code ON tasks (code, no) WHERE code <> '';
CREATE INDEX tasks_session ON tasks (session, no) WHERE session <> '';
CREATE INDEX tasks_transcript ON tasks (session, ended) WHERE session <> '' AND state = 9;
CREATE INDEX tasks_tenant ON tasks (tenant, no) WHERE tenant <> 'default';
CREATE INDEX tasks_pool ON tasks (pool, no) WHERE pool <> 'default';

-- Specs too large to be rewritten with the row at every change of state.
CREATE TABLE task_specs (
  no   INTEGER PRIMARY KEY REFERENCES tasks (no) ON DELETE CASCADE,
  spec BLOB NOT NULL
) STRICT;

CREATE TABLE task_labels (
  no     INTEGER NOT NULL REFERENCES tasks (no) ON DELETE CASCADE,
  tenant TEXT    NOT NULL,
  key    TEXT    NOT NULL,
  value  TEXT    NOT NULL,
  PRIMARY KEY (no, key)
) STRICT, WITHOUT ROWID;
CREATE INDEX task_labels_key ON task_labels (key, no, value, tenant);
CREATE INDEX task_labels_value ON task_labels (key, value, no, tenant);

CREATE TABLE pool_seqs (
  pool TEXT PRIMARY KEY,
  seq  INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- events holds one row per part of a batch: the entries first_seq..last_seq as
-- length-prefixed dash.v1.Event messages without their seq.
CREATE TABLE events (
  first_seq INTEGER PRIMARY KEY,
  last_seq  INTEGER NOT NULL,
  time      INTEGER NOT NULL,
  entries   BLOB    NOT NULL
) STRICT;

-- "sessions" is the table of login sessions; agent sessions have this one.
CREATE TABLE agent_sessions (
  tenant     TEXT    NOT NULL,
  id         TEXT    NOT NULL,
  pool       TEXT    NOT NULL,
  gateway    TEXT    NOT NULL,
  generation INTEGER NOT NULL,
  replay     INTEGER NOT NULL,
  state      INTEGER NOT NULL,
  reason     TEXT    NOT NULL,
  next_step  TEXT    NOT NULL,
  restarts   INTEGER NOT NULL,
  labels     TEXT    NOT NULL,
  created_at INTEGER NOT NULL,
  updated_at INTEGER NOT NULL,
  PRIMARY KEY (id, tenant)
) STRICT, WITHOUT ROWID;

CREATE TABLE gateway_status (
  id        TEXT PRIMARY KEY,
  tenant    TEXT    NOT NULL,
  owner     TEXT    NOT NULL,
  epoch     INTEGER NOT NULL,
  state     INTEGER NOT NULL,
  reason    TEXT    NOT NULL,
  next_step TEXT    NOT NULL,
  boot_id   TEXT    NOT NULL,
  version   TEXT    NOT NULL,
  "window"  INTEGER NOT NULL,
  running   INTEGER NOT NULL,
  restarts  INTEGER NOT NULL,
  pid       INTEGER NOT NULL,
  since     INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- scope: 1 shard, 2 gateway. Epochs only grow, also over restarts.
CREATE TABLE ownership (
  scope INTEGER NOT NULL,
  key   TEXT    NOT NULL,
  owner TEXT    NOT NULL,
  epoch INTEGER NOT NULL,
  PRIMARY KEY (scope, key)
) STRICT, WITHOUT ROWID;

CREATE TABLE gateways (
  id              TEXT PRIMARY KEY,
  tenant          TEXT    NOT NULL DEFAULT 'default',
  pool            TEXT    NOT NULL,
  node            TEXT    NOT NULL,
  region          TEXT    NOT NULL,
  url             TEXT    NOT NULL,
  token           TEXT    NOT NULL,
  max_concurrency INTEGER NOT NULL,
  weight          INTEGER NOT NULL,
  capabilities    TEXT    NOT NULL,
  labels          TEXT    NOT NULL,
  managed         TEXT,
  drained         INTEGER NOT NULL,
  version         INTEGER NOT NULL,
  created_at      INTEGER NOT NULL
) STRICT;

CREATE TABLE pools (
  id              TEXT PRIMARY KEY,
  tenant          TEXT    NOT NULL DEFAULT 'default',
  max_concurrency INTEGER NOT NULL,
  limits          TEXT    NOT NULL,
  reserved        TEXT    NOT NULL,
  aging_seconds   INTEGER NOT NULL,
  away_seconds    INTEGER NOT NULL,
  version         INTEGER NOT NULL,
  created_at      INTEGER NOT NULL
) STRICT;

CREATE TABLE api_keys (
  id           INTEGER PRIMARY KEY,
  key_id       TEXT    NOT NULL UNIQUE,
  key_hash     TEXT    NOT NULL UNIQUE,
  name         TEXT    NOT NULL,
  tenant       TEXT    NOT NULL DEFAULT 'default',
  permissions  TEXT    NOT NULL DEFAULT '[]',
  rate_limit   INTEGER NOT NULL DEFAULT 100 CHECK (rate_limit >= 0),
  created_at   INTEGER NOT NULL,
  expires_at   INTEGER,
  last_used_at INTEGER,
  is_active    INTEGER NOT NULL DEFAULT 1 CHECK (is_active IN (0, 1)),
  version      INTEGER NOT NULL DEFAULT 1
) STRICT;

-- +goose Down
DROP TABLE api_keys;
DROP TABLE pools;
DROP TABLE gateways;
DROP TABLE ownership;
DROP TABLE gateway_status;
DROP TABLE agent_sessions;
DROP TABLE events;
DROP TABLE pool_seqs;
DROP TABLE task_labels;
DROP TABLE task_specs;
DROP TABLE tasks;
DROP TABLE counters;
DROP TABLE schema_compat;
