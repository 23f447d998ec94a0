-- A gateway's home: the id of the only node that starts and dials it. A node
-- tells its own.

-- +goose Up
ALTER TABLE gateways ADD COLUMN home text COLLATE "C" NOT NULL DEFAULT '';
ALTER TABLE nodes ADD COLUMN home text COLLATE "C" NOT NULL DEFAULT '';

-- +goose Down
ALTER TABLE nodes DROP COLUMN home;
ALTER TABLE gateways DROP COLUMN home;
