-- Configuration, accounts and the audit log. Times are timestamptz here; a text
-- holds no NUL: the API lets none in, and JSON escapes it.

-- +goose Up
CREATE TABLE gateways (
  id              text COLLATE "C" PRIMARY KEY,
  tenant          text COLLATE "C" NOT NULL DEFAULT 'default',
  pool            text COLLATE "C" NOT NULL,
  node            text        NOT NULL,
  region          text        NOT NULL,
  url             text        NOT NULL,
  token           text        NOT NULL,
  max_concurrency integer     NOT NULL,
  weight          integer     NOT NULL,
  capabilities    json,
  labels          json,
  managed         json,
  drained         boolean     NOT NULL,
  version         bigint      NOT NULL,
  created_at      timestamptz NOT NULL
);

CREATE TABLE pools (
  id              text COLLATE "C" PRIMARY KEY,
  tenant          text COLLATE "C" NOT NULL DEFAULT 'default',
  max_concurrency integer     NOT NULL,
  limits          json,
  reserved        json,
  aging_seconds   integer     NOT NULL,
  away_seconds    integer     NOT NULL,
  version         bigint      NOT NULL,
  created_at      timestamptz NOT NULL
);

-- tenant '' is every tenant, here and in users.
CREATE TABLE api_keys (
  id           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  key_id       text COLLATE "C" NOT NULL UNIQUE,
  key_hash     text        NOT NULL UNIQUE,
  name         text        NOT NULL,
  tenant       text COLLATE "C" NOT NULL DEFAULT 'default',
  permissions  jsonb       NOT NULL DEFAULT '[]',
  rate_limit   integer     NOT NULL DEFAULT 100 CHECK (rate_limit >= 0),
  created_at   timestamptz NOT NULL DEFAULT now(),
  expires_at   timestamptz,
  last_used_at timestamptz,
  is_active    boolean     NOT NULL DEFAULT true,
  version      bigint      NOT NULL DEFAULT 1
) WITH (fillfactor = 70);

CREATE TABLE tenants (
  id         text COLLATE "C" PRIMARY KEY,
  name       text        NOT NULL,
  created_at timestamptz NOT NULL DEFAULT now(),
  version    bigint      NOT NULL DEFAULT 1
);
INSERT INTO tenants (id, name) VALUES ('default', 'default');

-- email is kept in lower case by its writer.
CREATE TABLE users (
  id            text COLLATE "C" PRIMARY KEY,
  email         text        NOT NULL UNIQUE,
  password_hash text        NOT NULL,
  role          text        NOT NULL DEFAULT 'user',
  tenant        text COLLATE "C" NOT NULL DEFAULT 'default',
  created_at    timestamptz NOT NULL DEFAULT now(),
  version       bigint      NOT NULL DEFAULT 1
);

-- token_hash is the SHA-256 of the token, which itself is stored nowhere.
CREATE TABLE sessions (
  id         text COLLATE "C" PRIMARY KEY,
  user_id    text COLLATE "C" NOT NULL REFERENCES users (id) ON DELETE CASCADE,
  token_hash bytea       NOT NULL UNIQUE CHECK (length(token_hash) = 32),
  expires_at timestamptz NOT NULL,
  created_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX sessions_user ON sessions (user_id);
CREATE INDEX sessions_expiry ON sessions (expires_at);

-- hash is SHA-256(hash of the row before, seq, content): see persistence/audit.go.
CREATE TABLE audit (
  seq        bigint      PRIMARY KEY,
  time       timestamptz NOT NULL,
  tenant     text COLLATE "C" NOT NULL,
  actor      text        NOT NULL,
  action     text        NOT NULL,
  target     text        NOT NULL,
  request_id text        NOT NULL,
  detail     text        NOT NULL,
  hash       bytea       NOT NULL UNIQUE CHECK (length(hash) = 32)
);
CREATE INDEX audit_tenant ON audit (tenant, seq);

-- The end of the chain: writers queue at this row, and rows cut off the end
-- are noticed.
CREATE TABLE audit_head (
  one  boolean PRIMARY KEY DEFAULT true CHECK (one),
  seq  bigint  NOT NULL,
  hash bytea   NOT NULL
) WITH (fillfactor = 10);
INSERT INTO audit_head (seq, hash) VALUES (0, decode(repeat('00', 32), 'hex'));

-- +goose StatementBegin
CREATE FUNCTION audit_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  RAISE EXCEPTION 'the audit log is append-only';
END $$;
-- +goose StatementEnd
CREATE TRIGGER audit_append_only BEFORE UPDATE OR DELETE ON audit FOR EACH ROW EXECUTE FUNCTION audit_append_only();
CREATE TRIGGER audit_no_truncate BEFORE TRUNCATE ON audit EXECUTE FUNCTION audit_append_only();

-- Whoever remembers an account hears at once that its row is another now.
-- +goose StatementBegin
CREATE FUNCTION notify_account() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  PERFORM pg_notify('dash_accounts', TG_ARGV[0] || ':' || (to_jsonb(OLD) ->> TG_ARGV[1]));
  RETURN NULL;
END $$;
-- +goose StatementEnd
CREATE TRIGGER key_changed AFTER UPDATE ON api_keys FOR EACH ROW WHEN (OLD.version <> NEW.version) EXECUTE FUNCTION notify_account('key', 'key_id');
CREATE TRIGGER key_removed AFTER DELETE ON api_keys FOR EACH ROW EXECUTE FUNCTION notify_account('key', 'key_id');
CREATE TRIGGER user_changed AFTER UPDATE ON users FOR EACH ROW WHEN (OLD.version <> NEW.version) EXECUTE FUNCTION notify_account('user', 'id');
CREATE TRIGGER user_removed AFTER DELETE ON users FOR EACH ROW EXECUTE FUNCTION notify_account('user', 'id');

-- +goose Down
DROP TABLE audit_head;
DROP TABLE audit;
DROP TABLE sessions;
DROP TABLE users;
DROP TABLE tenants;
DROP TABLE api_keys;
DROP TABLE pools;
DROP TABLE gateways;
DROP FUNCTION notify_account;
DROP FUNCTION audit_append_only;
