-- A session that a batch writes without data is removed: its row goes in the same
-- transaction, behind the compare of its generation. commit_batch_v1 stays as it
-- is, and the binary before never writes a session without data.

-- +goose Up
-- +goose StatementBegin
CREATE FUNCTION remove_agent_session() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  DELETE FROM agent_sessions WHERE id = NEW.id AND tenant = NEW.tenant;
  RETURN NULL;
END $$;
-- +goose StatementEnd
CREATE TRIGGER agent_session_removed AFTER INSERT OR UPDATE ON agent_sessions
  FOR EACH ROW WHEN (octet_length(NEW.data) = 0) EXECUTE FUNCTION remove_agent_session();

-- +goose Down
DROP TRIGGER agent_session_removed ON agent_sessions;
DROP FUNCTION remove_agent_session;
