-- The history of tasks that a store in Redis is rebuilt from after a loss of
-- data: every accepted task and every end, drained from its outbox. rev is the
-- batch that wrote the row there; an older one never replaces a newer one.

-- +goose Up
CREATE TABLE task_history (
  id          text COLLATE "C" PRIMARY KEY,
  tenant      text COLLATE "C" NOT NULL,
  state       smallint    NOT NULL,
  rev         bigint      NOT NULL,
  finished_at timestamptz,
  idem_key    bytea,
  idem_hash   bytea,
  task        bytea       NOT NULL -- persistence/internal/rows
);
CREATE INDEX task_history_finished ON task_history (finished_at) WHERE finished_at IS NOT NULL;

CREATE TABLE task_history_mark (
  one     boolean     PRIMARY KEY DEFAULT true CHECK (one),
  dataset text        NOT NULL,
  batch   bigint      NOT NULL,
  seq     bigint      NOT NULL,
  at      timestamptz NOT NULL
);

-- +goose Down
DROP TABLE task_history_mark;
DROP TABLE task_history;
