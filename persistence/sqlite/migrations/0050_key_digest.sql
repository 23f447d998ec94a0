-- The SHA-256 of a key's text, so that a wrong text is known as such without
-- bcrypt. Empty for keys from before: the first use that passes fills it in.

-- +goose Up
ALTER TABLE api_keys ADD COLUMN key_digest BLOB NOT NULL DEFAULT x'';

-- +goose Down
ALTER TABLE api_keys DROP COLUMN key_digest;
