-- Times are bigint microseconds since 1970 UTC, 0 means "not set"; states and
-- classes are the numbers of package messages, which are durable from here on.
-- Texts that may hold any character (NUL too) are bytea.
-- A migration only adds (expand). What removes something must come one release
-- later and must raise schema_compat.min_binary, so that the binary before it
-- refuses to run on what it cannot read.

-- +goose Up
CREATE TABLE schema_compat (
  one        boolean PRIMARY KEY DEFAULT true CHECK (one),
  min_binary bigint  NOT NULL,
  shards     integer NOT NULL
);
INSERT INTO schema_compat (min_binary, shards) VALUES (1, 64);

-- One row, locked by every batch before it writes: commits have one order.
-- seq is the newest event, no the newest place in the order of lists, drift
-- bounds tasks.no - tasks.created_at.
CREATE TABLE counters (
  one   boolean PRIMARY KEY DEFAULT true CHECK (one),
  seq   bigint  NOT NULL,
  no    bigint  NOT NULL,
  drift bigint  NOT NULL
) WITH (fillfactor = 10);
INSERT INTO counters (seq, no, drift) VALUES (0, 0, 0);

-- The last batch of each writer: what reads back whether a COMMIT whose answer
-- was lost took place. seq and bad are what that batch was answered.
CREATE TABLE writers (
  id    uuid   PRIMARY KEY,
  batch bigint NOT NULL,
  seq   bigint NOT NULL,
  bad   integer[],
  at    timestamptz NOT NULL
) WITH (fillfactor = 10);

-- no grows in commit order and is never less than created_at, so it orders
-- lists and bounds time ranges. No index names a column, in its key or in its
-- predicate, that changes before the task is terminal, so until then every
-- update is HOT: open, ended, failed and code are kept for that. failed is the
-- state of a task that ended otherwise than well, ended the place of an end
-- that went well in a session. A page has room for the first change of each of
-- its rows (fillfactor), also when all come in one batch. run holds in protobuf encoding what no query asks for.
CREATE TABLE tasks (
  no            bigint   NOT NULL,
  created_at    bigint   NOT NULL,
  class         smallint NOT NULL,
  id            text COLLATE "C" NOT NULL,
  tenant        text COLLATE "C" NOT NULL,
  pool          text COLLATE "C" NOT NULL,
  session       text COLLATE "C" NOT NULL,
  idem_key      bytea,
  idem_hash     bytea,
  spec          bytea,
  seq           bigint   NOT NULL,
  claim         bigint   NOT NULL,
  cancel_at     bigint   NOT NULL,
  finished_at   bigint   NOT NULL,
  ended         bigint,
  state         smallint NOT NULL,
  failed        smallint,
  open          boolean  NOT NULL,
  gateway       text COLLATE "C" NOT NULL,
  code          text COLLATE "C",
  cancel_reason bytea,
  run           bytea    NOT NULL
) WITH (fillfactor = 45, autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_insert_scale_factor = 0.5);
ALTER TABLE tasks ALTER COLUMN spec SET STORAGE EXTERNAL, ALTER COLUMN run SET STORAGE EXTERNAL;
ALTER TABLE tasks ADD PRIMARY KEY (no);
CREATE UNIQUE INDEX tasks_id ON tasks (id);
CREATE UNIQUE INDEX tasks_idem ON tasks (tenant, idem_key) WHERE idem_key IS NOT NULL;
CREATE INDEX tasks_open ON tasks (pool, id) WHERE open;
CREATE INDEX tasks_failed ON tasks (failed, no) WHERE failed IS NOT NULL;
CREATE INDEX tasks_code ON tasks (code, no) WHERE code IS NOT NULL;
CREATE INDEX tasks_session ON tasks (session, no) WHERE session <> '';
CREATE INDEX tasks_transcript ON tasks (session, ended) WHERE session <> '' AND ended IS NOT NULL;
CREATE INDEX tasks_tenant ON tasks (tenant, no) WHERE tenant <> 'default';
CREATE INDEX tasks_pool ON tasks (pool, no) WHERE pool <> 'default';

CREATE TABLE task_labels (
  key    bytea  NOT NULL,
  no     bigint NOT NULL,
  value  bytea  NOT NULL,
  PRIMARY KEY (no, key)
);
CREATE INDEX task_labels_key ON task_labels (key, no);
CREATE INDEX task_labels_value ON task_labels (key, sha256(value), no);

CREATE TABLE pool_seqs (
  pool text COLLATE "C" PRIMARY KEY,
  seq  bigint NOT NULL
) WITH (fillfactor = 50);

-- events holds one row per part of a batch: the entries first_seq..last_seq as
-- length-prefixed dash.v1.Event messages without their seq.
CREATE TABLE events (
  first_seq bigint PRIMARY KEY,
  last_seq  bigint NOT NULL,
  time      bigint NOT NULL,
  entries   bytea  NOT NULL
);
ALTER TABLE events ALTER COLUMN entries SET STORAGE EXTERNAL;

-- "sessions" is the table of login sessions; agent sessions have this one.
-- data is JSON in bytes: of it only Dash reads, and it may hold any character.
CREATE TABLE agent_sessions (
  id         text COLLATE "C" NOT NULL,
  tenant     text COLLATE "C" NOT NULL,
  pool       text COLLATE "C" NOT NULL,
  generation bigint NOT NULL,
  data       bytea  NOT NULL,
  PRIMARY KEY (id, tenant)
) WITH (fillfactor = 60);

CREATE TABLE gateway_status (
  id     text COLLATE "C" PRIMARY KEY,
  tenant text COLLATE "C" NOT NULL,
  data   bytea NOT NULL
) WITH (fillfactor = 60);

-- A node is valid while expires lies in the future of this server's clock.
CREATE TABLE nodes (
  id      text COLLATE "C" PRIMARY KEY,
  addr    text    NOT NULL,
  region  text    NOT NULL,
  version text    NOT NULL,
  sees    integer NOT NULL,
  expires timestamptz NOT NULL
) WITH (fillfactor = 50);

-- scope: 1 shard, 2 gateway. Epochs only grow.
CREATE TABLE ownership (
  scope smallint NOT NULL,
  key   text COLLATE "C" NOT NULL,
  owner text COLLATE "C" NOT NULL,
  epoch bigint NOT NULL,
  PRIMARY KEY (scope, key)
) WITH (fillfactor = 50);

-- +goose Down
DROP TABLE ownership;
DROP TABLE nodes;
DROP TABLE gateway_status;
DROP TABLE agent_sessions;
DROP TABLE events;
DROP TABLE pool_seqs;
DROP TABLE task_labels;
DROP TABLE tasks;
DROP TABLE writers;
DROP TABLE counters;
DROP TABLE schema_compat;
