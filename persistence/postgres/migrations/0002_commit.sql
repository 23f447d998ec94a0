-- One batch is one call of commit_batch_v1. Its arguments are arrays of the
-- types below: one unnest of a composite array costs an eighth of one unnest per
-- column. A change of the function or a type is a new one beside them (_v2): the
-- binary before goes on calling this one.
--
-- g is the number of a group: ops that touch a common row. A group whose
-- expectations (x_…, NULL: any) do not fit is left out as a whole and its
-- number returned, beside the rows it met.

-- +goose Up
CREATE TYPE commit_fence_v1 AS (scope smallint, key text, owner text, epoch bigint);
-- off is the place of the op in the batch. write false: off 0 only looks, -1
-- only names rows to be returned with the group.
CREATE TYPE commit_insert_v1 AS (
  g integer, write boolean, off integer, id text, tenant text, pool text, session text, class smallint, created_at bigint,
  idem_key bytea, idem_hash bytea, spec bytea, seq bigint, claim bigint, cancel_at bigint, finished_at bigint, ended integer,
  state smallint, failed smallint, open boolean, gateway text, code text, cancel_reason bytea, run bytea
);
CREATE TYPE commit_update_v1 AS (
  g integer, write boolean, id text, x_state smallint, x_claim bigint, x_cancel boolean, x_tenant text,
  seq bigint, claim bigint, finished_at bigint, ended integer, state smallint, failed smallint, open boolean, gateway text, code text, run bytea,
  cancel_at bigint, cancel_reason bytea
);
CREATE TYPE commit_cancel_v1 AS (g integer, id text, x_tenant text, cancel_at bigint, cancel_reason bytea);
CREATE TYPE commit_label_v1 AS (g integer, off integer, key bytea, value bytea);
-- x_generation -1: there must be no row.
CREATE TYPE commit_session_v1 AS (g integer, write boolean, id text, tenant text, x_generation bigint, pool text, generation bigint, data bytea);
CREATE TYPE commit_status_v1 AS (g integer, id text, tenant text, data bytea);
CREATE TYPE commit_seq_v1 AS (g integer, pool text, seq bigint);
CREATE TYPE commit_task_v1 AS (
  no bigint, id text, tenant text, pool text, class smallint, session text, created_at bigint, spec bytea, state smallint, seq bigint, claim bigint,
  gateway text, cancel_at bigint, cancel_reason bytea, finished_at bigint, run bytea, idem_key bytea, idem_hash bytea
);
CREATE TYPE commit_generation_v1 AS (id text, tenant text, generation bigint);

-- status 0: committed; 1: only the fences in held hold, nothing was written;
-- 2: a group in p_hard does not fit, nothing was written.
-- +goose StatementBegin
CREATE FUNCTION commit_batch_v1(
  p_writer uuid, p_prev bigint, p_batch bigint, p_channel text, p_fences commit_fence_v1[],
  p_inserts commit_insert_v1[], p_updates commit_update_v1[], p_cancels commit_cancel_v1[], p_labels commit_label_v1[],
  p_sessions commit_session_v1[], p_statuses commit_status_v1[], p_seqs commit_seq_v1[],
  p_ops integer, p_min_created bigint, p_max_created bigint,
  p_ev_g integer[], p_ev_n integer[], p_ev_len integer[], p_ev bytea, p_part_n integer[], p_part_len integer[],
  p_hard integer[], p_want integer[], p_check boolean,
  OUT status smallint, OUT first bigint, OUT bad integer[], OUT held integer[], OUT tasks commit_task_v1[], OUT generations commit_generation_v1[]
) LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
  v_seq bigint;
  v_no bigint;
  v_n bigint;
  v_need bigint;
  v_all boolean := true;
  v_bad integer[] := '{}';
  v_show integer[];
  v_at integer := 1;
  v_last bigint;
BEGIN
  status := 0;
  -- Sent in the order of (scope, key), and so locked: the plan visits them one by one.
  IF p_fences IS NOT NULL THEN
    SELECT array_agg(x.i) INTO held FROM (
      SELECT f.i::integer AS i FROM unnest(p_fences) WITH ORDINALITY AS f(scope, key, owner, epoch, i)
      JOIN ownership o ON o.scope = f.scope AND o.key = f.key
      WHERE o.owner = f.owner AND o.epoch = f.epoch AND o.owner <> ''
      FOR SHARE OF o) x;
    IF coalesce(cardinality(held), 0) <> cardinality(p_fences) THEN
      status := 1;
      RETURN;
    END IF;
  END IF;

  -- From here to the end one batch at a time.
  SELECT c.seq, greatest(c.no, p_max_created) INTO v_seq, v_no FROM counters c WHERE c.one FOR UPDATE;
  first := v_seq;

  IF p_check THEN
    SELECT array_agg(DISTINCT m.g) INTO bad FROM (
      SELECT u.g FROM unnest(p_updates) u LEFT JOIN tasks t ON t.id = u.id
      WHERE t.no IS NULL OR t.state <> u.x_state OR t.claim <> u.x_claim OR (t.cancel_at <> 0) <> u.x_cancel OR t.tenant <> u.x_tenant
      UNION ALL
      SELECT u.g FROM unnest(p_cancels) u LEFT JOIN tasks t ON t.id = u.id
      WHERE t.no IS NULL OR NOT t.open OR t.cancel_at <> 0 OR t.tenant <> u.x_tenant
      UNION ALL
      SELECT u.g FROM unnest(p_inserts) u JOIN tasks t ON t.id = u.id WHERE u.off >= 0
      UNION ALL
      SELECT u.g FROM unnest(p_inserts) u JOIN tasks t ON t.tenant = u.tenant AND t.idem_key = u.idem_key AND t.idem_key IS NOT NULL WHERE u.off >= 0
      UNION ALL
      SELECT u.g FROM unnest(p_sessions) u LEFT JOIN agent_sessions s ON s.id = u.id AND s.tenant = u.tenant
      WHERE (u.x_generation >= 0 AND s.generation IS DISTINCT FROM u.x_generation) OR (u.x_generation = -1 AND s.id IS NOT NULL)) m;
    IF bad IS NOT NULL THEN
      v_all := false;
      v_bad := bad;
      IF bad && p_hard THEN
        status := 2;
      END IF;
    END IF;
    v_show := v_bad || p_want;
    IF cardinality(v_show) > 0 THEN
      SELECT array_agg(ROW(t.no, t.id, t.tenant, t.pool, t.class, t.session, t.created_at, t.spec, t.state, t.seq, t.claim, t.gateway, t.cancel_at,
        t.cancel_reason, t.finished_at, t.run, t.idem_key, t.idem_hash)::commit_task_v1) INTO tasks FROM (
        SELECT u.id FROM unnest(p_updates) u WHERE u.g = ANY (v_show)
        UNION SELECT u.id FROM unnest(p_cancels) u WHERE u.g = ANY (v_show)
        UNION SELECT u.id FROM unnest(p_inserts) u WHERE u.g = ANY (v_show)
        UNION SELECT k.id FROM unnest(p_inserts) u JOIN tasks k ON k.tenant = u.tenant AND k.idem_key = u.idem_key AND k.idem_key IS NOT NULL
          WHERE u.g = ANY (v_show)) i JOIN tasks t ON t.id = i.id;
      SELECT array_agg(ROW(s.id, s.tenant, s.generation)::commit_generation_v1) INTO generations
        FROM unnest(p_sessions) u JOIN agent_sessions s ON s.id = u.id AND s.tenant = u.tenant WHERE u.g = ANY (v_show);
    END IF;
    IF status <> 0 THEN
      RETURN;
    END IF;
  END IF;

  IF p_updates IS NOT NULL THEN
    UPDATE tasks t SET seq = u.seq, claim = u.claim, finished_at = u.finished_at,
      ended = CASE WHEN t.session <> '' THEN v_no + u.ended END, state = u.state, failed = u.failed,
      open = u.open, gateway = u.gateway, code = u.code, run = u.run,
      cancel_at = coalesce(u.cancel_at, t.cancel_at), cancel_reason = CASE WHEN u.cancel_at IS NULL THEN t.cancel_reason ELSE u.cancel_reason END
    FROM unnest(p_updates) u
    WHERE t.id = u.id AND u.write AND t.state = u.x_state AND t.claim = u.x_claim AND ((t.cancel_at <> 0) = u.x_cancel) IS NOT FALSE
      AND (t.tenant = u.x_tenant) IS NOT FALSE AND (v_all OR u.g <> ALL (v_bad));
    GET DIAGNOSTICS v_n = ROW_COUNT;
    v_need := cardinality(p_updates);
    IF p_check THEN
      SELECT count(*) INTO v_need FROM unnest(p_updates) u WHERE u.write AND u.g <> ALL (v_bad);
    END IF;
    IF v_n <> v_need THEN
      RAISE EXCEPTION '% of % updates fit', v_n, v_need USING ERRCODE = 'DS002';
    END IF;
  END IF;
  IF p_cancels IS NOT NULL THEN
    UPDATE tasks t SET cancel_at = u.cancel_at, cancel_reason = u.cancel_reason FROM unnest(p_cancels) u
    WHERE t.id = u.id AND (v_all OR u.g <> ALL (v_bad));
  END IF;
  IF p_inserts IS NOT NULL THEN
    INSERT INTO tasks (no, created_at, class, id, tenant, pool, session, idem_key, idem_hash, spec, seq, claim, cancel_at, finished_at, ended,
      state, failed, open, gateway, code, cancel_reason, run)
    SELECT v_no + u.off, u.created_at, u.class, u.id, u.tenant, u.pool, u.session, u.idem_key, u.idem_hash, u.spec, u.seq, u.claim, u.cancel_at,
      u.finished_at, v_no + u.ended, u.state, u.failed, u.open, u.gateway, u.code, u.cancel_reason, u.run
    FROM unnest(p_inserts) u WHERE u.write AND (v_all OR u.g <> ALL (v_bad));
    IF p_labels IS NOT NULL THEN
      INSERT INTO task_labels (no, key, value) SELECT v_no + u.off, u.key, u.value FROM unnest(p_labels) u WHERE v_all OR u.g <> ALL (v_bad);
    END IF;
  END IF;
  IF p_sessions IS NOT NULL THEN
    INSERT INTO agent_sessions AS s (id, tenant, pool, generation, data)
    SELECT u.id, u.tenant, u.pool, u.generation, u.data FROM unnest(p_sessions) u WHERE u.write AND (v_all OR u.g <> ALL (v_bad))
    ON CONFLICT (id, tenant) DO UPDATE SET pool = excluded.pool, generation = excluded.generation, data = excluded.data;
  END IF;
  IF p_statuses IS NOT NULL THEN
    INSERT INTO gateway_status (id, tenant, data) SELECT u.id, u.tenant, u.data FROM unnest(p_statuses) u WHERE v_all OR u.g <> ALL (v_bad)
    ON CONFLICT (id) DO UPDATE SET tenant = excluded.tenant, data = excluded.data;
  END IF;
  IF p_seqs IS NOT NULL THEN
    INSERT INTO pool_seqs AS p (pool, seq) SELECT u.pool, max(u.seq) FROM unnest(p_seqs) u WHERE v_all OR u.g <> ALL (v_bad) GROUP BY u.pool ORDER BY u.pool
    ON CONFLICT (pool) DO UPDATE SET seq = excluded.seq WHERE p.seq < excluded.seq;
  END IF;

  IF p_ev IS NOT NULL THEN
    IF v_all THEN
      FOR i IN 1 .. cardinality(p_part_n) LOOP
        INSERT INTO events (first_seq, last_seq, time, entries)
        VALUES (v_seq + 1, v_seq + p_part_n[i], (extract(epoch FROM now()) * 1000000)::bigint,
          CASE WHEN cardinality(p_part_n) = 1 THEN p_ev ELSE substring(p_ev FROM v_at FOR p_part_len[i]) END);
        v_seq := v_seq + p_part_n[i];
        v_at := v_at + p_part_len[i];
      END LOOP;
    ELSE
      INSERT INTO events (first_seq, last_seq, time, entries)
      SELECT v_seq + 1, v_seq + sum(e.n), (extract(epoch FROM now()) * 1000000)::bigint, string_agg(substring(p_ev FROM e.at FOR e.len), '' ORDER BY e.i)
      FROM (SELECT u.g, u.n, u.len, u.i, (sum(u.len) OVER (ORDER BY u.i) - u.len)::integer + 1 AS at
        FROM unnest(p_ev_g, p_ev_n, p_ev_len) WITH ORDINALITY AS u(g, n, len, i)) e
      WHERE e.g <> ALL (v_bad) HAVING count(*) > 0
      RETURNING last_seq INTO v_last;
      v_seq := coalesce(v_last, v_seq);
    END IF;
    IF v_seq > first THEN
      PERFORM pg_notify(p_channel, v_seq::text);
    END IF;
  END IF;

  UPDATE counters c SET seq = v_seq, no = v_no + p_ops, drift = greatest(c.drift, v_no + p_ops - p_min_created) WHERE c.one;
  UPDATE writers w SET batch = p_batch, seq = first, bad = commit_batch_v1.bad, at = now() WHERE w.id = p_writer AND w.batch = p_prev;
  IF NOT FOUND THEN
    RAISE EXCEPTION 'the writer is not at batch %', p_prev USING ERRCODE = 'DS001';
  END IF;
END $$;
-- +goose StatementEnd

-- +goose Down
DROP FUNCTION commit_batch_v1;
DROP TYPE commit_generation_v1;
DROP TYPE commit_task_v1;
DROP TYPE commit_seq_v1;
DROP TYPE commit_status_v1;
DROP TYPE commit_session_v1;
DROP TYPE commit_label_v1;
DROP TYPE commit_cancel_v1;
DROP TYPE commit_update_v1;
DROP TYPE commit_insert_v1;
DROP TYPE commit_fence_v1;
