-- A gateway's home: the id of the only node that starts and dials it.

-- +goose Up
ALTER TABLE gateways ADD COLUMN home TEXT NOT NULL DEFAULT '';

-- +goose Down
ALTER TABLE gateways DROP COLUMN home;
