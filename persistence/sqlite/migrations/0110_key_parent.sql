-- The key that made a key, empty for one that a person or a start of Dash made:
-- they are revoked together.

-- +goose Up
ALTER TABLE api_keys ADD COLUMN parent TEXT NOT NULL DEFAULT '';
CREATE INDEX api_keys_parent ON api_keys (parent) WHERE parent <> '';

-- +goose Down
DROP INDEX api_keys_parent;
ALTER TABLE api_keys DROP COLUMN parent;
