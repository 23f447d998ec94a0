-- What the first release on this engine asks of a store, one statement to a
-- line: it must go on running on every newer schema (see persistence/DESIGN.md,
-- Migrations). Taken from it while its conformance suite ran. It goes when
-- schema_compat.min_binary passes level 1.
DELETE FROM gateways WHERE id = $1 RETURNING 1
DELETE FROM sessions WHERE id = $1 RETURNING 1
DELETE FROM sessions WHERE id IN (SELECT id FROM sessions WHERE expires_at <= now() LIMIT $1 FOR UPDATE SKIP LOCKED) RETURNING 1
DELETE FROM sessions WHERE user_id = $1 RETURNING 1
DELETE FROM users WHERE id = $1 RETURNING 1
INSERT INTO api_keys (key_id, key_hash, name, tenant, permissions, rate_limit, created_at, expires_at, last_used_at, is_active, version) SELECT $1, $2, $3, $4, $5::jsonb, $6::integer, $7::timestamptz, $8::timestamptz, $9::timestamptz, $10::boolean, $11::bigint WHERE NOT EXISTS (SELECT 1 FROM api_keys)
INSERT INTO api_keys (key_id, key_hash, name, tenant, permissions, rate_limit, created_at, expires_at, last_used_at, is_active, version) VALUES ($1, $2, $3, $4, $5::jsonb, $6, $7, $8, $9, $10, $11) RETURNING 1
INSERT INTO gateways (id, tenant, pool, node, region, url, token, max_concurrency, weight, capabilities, labels, managed, drained, version, created_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10::json, $11::json, $12::json, $13, $14, $15) RETURNING id, tenant, pool, node, region, url, token, max_concurrency, weight, capabilities::text, labels::text, managed::text, drained, version, created_at
INSERT INTO ownership AS o (scope, key, owner, epoch) VALUES ($1, $2, $3, 1) ON CONFLICT (scope, key) DO UPDATE SET owner = excluded.owner, epoch = o.epoch + 1 WHERE o.owner = '' OR (o.owner <> excluded.owner AND NOT EXISTS (SELECT FROM nodes n WHERE n.id = o.owner AND n.expires > clock_timestamp())) RETURNING epoch
INSERT INTO pools (id, tenant, max_concurrency, limits, reserved, aging_seconds, away_seconds, version, created_at) VALUES ($1, $2, $3, $4::json, $5::json, $6, $7, $8::bigint + 1, $9) ON CONFLICT DO NOTHING RETURNING id, tenant, max_concurrency, limits::text, reserved::text, aging_seconds, away_seconds, version, created_at
INSERT INTO sessions (id, user_id, token_hash, expires_at, created_at) VALUES ($1, $2, $3, $4, $5) RETURNING 1
INSERT INTO tenants (id, name, created_at, version) VALUES ($1, $2, $3, 1) RETURNING id, name, created_at, version
INSERT INTO users (id, email, password_hash, role, tenant, created_at, version) VALUES ($1, $2, $3, $4, $5, $6, 1) RETURNING id, email, password_hash, role, tenant, created_at, version
INSERT INTO writers (id, batch, seq, at) VALUES ($1, $2, 0, now()) ON CONFLICT (id) DO UPDATE SET at = now() RETURNING batch
SELECT 'commit_fence_v1'::regtype::oid, 'commit_insert_v1'::regtype::oid, 'commit_update_v1'::regtype::oid, 'commit_cancel_v1'::regtype::oid, 'commit_label_v1'::regtype::oid, 'commit_session_v1'::regtype::oid, 'commit_status_v1'::regtype::oid, 'commit_seq_v1'::regtype::oid
SELECT 1 FROM gateways WHERE id = $1
SELECT 1 FROM users WHERE id = $1
SELECT count(*) FROM tasks WHERE class = $1
SELECT count(*) FROM tasks WHERE code IS NOT NULL AND code = $1 AND state = ANY ($2) AND failed IS NOT NULL AND failed = ANY ($3) AND tenant = $4
SELECT count(*) FROM tasks WHERE code IS NOT NULL AND code = $1
SELECT count(*) FROM tasks WHERE created_at < $1 AND no < $2 + (SELECT drift FROM counters)
SELECT count(*) FROM tasks WHERE created_at > $1 AND no > $2 AND created_at < $3 AND no < $4 + (SELECT drift FROM counters)
SELECT count(*) FROM tasks WHERE created_at > $1 AND no > $2
SELECT count(*) FROM tasks WHERE gateway = $1
SELECT count(*) FROM tasks WHERE no IN (SELECT l.no FROM task_labels l WHERE l.key = $1 AND sha256(l.value) = sha256($2) AND l.value = $3)
SELECT count(*) FROM tasks WHERE no IN (SELECT l.no FROM task_labels l WHERE l.key = $1)
SELECT count(*) FROM tasks WHERE pool = $1 AND pool <> 'default'
SELECT count(*) FROM tasks WHERE pool = $1
SELECT count(*) FROM tasks WHERE session <> '' AND session = $1 AND state = ANY ($2) AND open AND no IN (SELECT l.no FROM task_labels l WHERE l.key = $3)
SELECT count(*) FROM tasks WHERE session <> '' AND session = $1
SELECT count(*) FROM tasks WHERE state = ANY ($1) AND failed IS NOT NULL AND failed = ANY ($2)
SELECT count(*) FROM tasks WHERE state = ANY ($1) AND gateway = $2 AND tenant = $3 AND tenant <> 'default' AND pool = $4 AND pool <> 'default' AND class = $5
SELECT count(*) FROM tasks WHERE state = ANY ($1) AND open AND pool = $2 AND pool <> 'default'
SELECT count(*) FROM tasks WHERE state = ANY ($1) AND open
SELECT count(*) FROM tasks WHERE state = ANY ($1)
SELECT count(*) FROM tasks WHERE tenant = $1 AND tenant <> 'default'
SELECT count(*) FROM tasks WHERE tenant = $1
SELECT count(*) FROM tasks
SELECT data FROM agent_sessions WHERE id = $1 AND tenant = $2
SELECT data FROM agent_sessions WHERE id > $1 AND ($2::text = '' OR tenant = $2) AND ($3::text = '' OR pool = $3) ORDER BY id FETCH FIRST $4 ROWS WITH TIES
SELECT data FROM gateway_status ORDER BY id
SELECT e.first_seq, e.entries, o.oldest FROM (SELECT coalesce(min(first_seq), 0) AS oldest FROM events) o LEFT JOIN events e ON e.first_seq >= (SELECT coalesce(max(first_seq), 0) FROM events WHERE first_seq <= $1 + 1) AND e.last_seq > $1 AND e.first_seq <= $1 + $2 ORDER BY e.first_seq
SELECT epoch FROM ownership WHERE scope = $1 AND key = $2 AND owner = $3
SELECT id, email, password_hash, role, tenant, created_at, version FROM users ORDER BY id
SELECT id, email, password_hash, role, tenant, created_at, version FROM users WHERE email = $1
SELECT id, email, password_hash, role, tenant, created_at, version FROM users WHERE id = $1
SELECT id, name, created_at, version FROM tenants ORDER BY id
SELECT id, name, created_at, version FROM tenants WHERE id = $1
SELECT id, tenant, max_concurrency, limits::text, reserved::text, aging_seconds, away_seconds, version, created_at FROM pools ORDER BY id
SELECT id, tenant, max_concurrency, limits::text, reserved::text, aging_seconds, away_seconds, version, created_at FROM pools WHERE id = $1
SELECT id, tenant, pool, node, region, url, token, max_concurrency, weight, capabilities::text, labels::text, managed::text, drained, version, created_at FROM gateways ORDER BY id
SELECT id, tenant, pool, node, region, url, token, max_concurrency, weight, capabilities::text, labels::text, managed::text, drained, version, created_at FROM gateways WHERE id = $1
SELECT id, user_id, token_hash, expires_at, created_at FROM sessions WHERE token_hash = $1 AND expires_at > now()
SELECT id, user_id, token_hash, expires_at, created_at FROM sessions WHERE user_id = $1 AND expires_at > now() ORDER BY created_at, id
SELECT key, owner, epoch FROM ownership WHERE scope = $1 ORDER BY key
SELECT key_id, key_hash, name, tenant, permissions::text, rate_limit, created_at, expires_at, last_used_at, is_active, version FROM api_keys ORDER BY id
SELECT key_id, key_hash, name, tenant, permissions::text, rate_limit, created_at, expires_at, last_used_at, is_active, version FROM api_keys WHERE key_id = $1
SELECT key_id, version FROM api_keys WHERE key_id = ANY($1)
SELECT min_binary, shards FROM schema_compat
SELECT no, id, tenant, pool, class, session, created_at, spec, state, seq, claim, gateway, cancel_at, cancel_reason, finished_at, run FROM tasks ORDER BY no DESC LIMIT 101
SELECT no, id, tenant, pool, class, session, created_at, spec, state, seq, claim, gateway, cancel_at, cancel_reason, finished_at, run FROM tasks ORDER BY no DESC LIMIT 5
SELECT no, id, tenant, pool, class, session, created_at, spec, state, seq, claim, gateway, cancel_at, cancel_reason, finished_at, run FROM tasks WHERE class = $1 AND no < $2 ORDER BY no DESC LIMIT 5
SELECT no, id, tenant, pool, class, session, created_at, spec, state, seq, claim, gateway, cancel_at, cancel_reason, finished_at, run FROM tasks WHERE class = $1 ORDER BY no DESC LIMIT 101
SELECT no, id, tenant, pool, class, session, created_at, spec, state, seq, claim, gateway, cancel_at, cancel_reason, finished_at, run FROM tasks WHERE class = $1 ORDER BY no DESC LIMIT 5
SELECT no, id, tenant, pool, class, session, created_at, spec, state, seq, claim, gateway, cancel_at, cancel_reason, finished_at, run FROM tasks WHERE code IS NOT NULL AND code = $1 AND no < $2 ORDER BY no DESC LIMIT 5
SELECT no, id, tenant, pool, class, session, created_at, spec, state, seq, claim, gateway, cancel_at, cancel_reason, finished_at, run FROM tasks WHERE code IS NOT NULL AND code = $1 AND state = ANY ($2) AND failed IS NOT NULL AND failed = ANY ($3) AND tenant = $4 AND no < $5 ORDER BY no DESC LIMIT 5
SELECT no, id, tenant, pool, class, session, created_at, spec, state, seq, claim, gateway, cancel_at, cancel_reason, finished_at, run FROM tasks WHERE code IS NOT NULL AND code = $1 AND state = ANY ($2) AND failed IS NOT NULL AND failed = ANY ($3) AND tenant = $4 ORDER BY no DESC LIMIT 101
SELECT no, id, tenant, pool, class, session, created_at, spec, state, seq, claim, gateway, cancel_at, cancel_reason, finished_at, run FROM tasks WHERE code IS NOT NULL AND code = $1 AND state = ANY ($2) AND failed IS NOT NULL AND failed = ANY ($3) AND tenant = $4 ORDER BY no DESC LIMIT 5
SELECT no, id, tenant, pool, class, session, created_at, spec, state, seq, claim, gateway, cancel_at, cancel_reason, finished_at, run FROM tasks WHERE code IS NOT NULL AND code = $1 ORDER BY no DESC LIMIT 101
SELECT no, id, tenant, pool, class, session, created_at, spec, state, seq, claim, gateway, cancel_at, cancel_reason, finished_at, run FROM tasks WHERE code IS NOT NULL AND code = $1 ORDER BY no DESC LIMIT 5
SELECT no, id, tenant, pool, class, session, created_at, spec, state, seq, claim, gateway, cancel_at, cancel_reason, finished_at, run FROM tasks WHERE created_at < $1 AND no < $2 + (SELECT drift FROM counters) AND no < $3 ORDER BY no DESC LIMIT 5
SELECT no, id, tenant, pool, class, session, created_at, spec, state, seq, claim, gateway, cancel_at, cancel_reason, finished_at, run FROM tasks WHERE created_at < $1 AND no < $2 + (SELECT drift FROM counters) ORDER BY no DESC LIMIT 101
SELECT no, id, tenant, pool, class, session, created_at, spec, state, seq, claim, gateway, cancel_at, cancel_reason, finished_at, run FROM tasks WHERE created_at < $1 AND no < $2 + (SELECT drift FROM counters) ORDER BY no DESC LIMIT 5
SELECT no, id, tenant, pool, class, session, created_at, spec, state, seq, claim, gateway, cancel_at, cancel_reason, finished_at, run FROM tasks WHERE created_at > $1 AND no > $2 AND created_at < $3 AND no < $4 + (SELECT drift FROM counters) AND no < $5 ORDER BY no DESC LIMIT 5
SELECT no, id, tenant, pool, class, session, created_at, spec, state, seq, claim, gateway, cancel_at, cancel_reason, finished_at, run FROM tasks WHERE created_at > $1 AND no > $2 AND created_at < $3 AND no < $4 + (SELECT drift FROM counters) ORDER BY no DESC LIMIT 101
SELECT no, id, tenant, pool, class, session, created_at, spec, state, seq, claim, gateway, cancel_at, cancel_reason, finished_at, run FROM tasks WHERE created_at > $1 AND no > $2 AND created_at < $3 AND no < $4 + (SELECT drift FROM counters) ORDER BY no DESC LIMIT 5
SELECT no, id, tenant, pool, class, session, created_at, spec, state, seq, claim, gateway, cancel_at, cancel_reason, finished_at, run FROM tasks WHERE created_at > $1 AND no > $2 AND no < $3 ORDER BY no DESC LIMIT 5
SELECT no, id, tenant, pool, class, session, created_at, spec, state, seq, claim, gateway, cancel_at, cancel_reason, finished_at, run FROM tasks WHERE created_at > $1 AND no > $2 ORDER BY no DESC LIMIT 101
SELECT no, id, tenant, pool, class, session, created_at, spec, state, seq, claim, gateway, cancel_at, cancel_reason, finished_at, run FROM tasks WHERE created_at > $1 AND no > $2 ORDER BY no DESC LIMIT 5
SELECT no, id, tenant, pool, class, session, created_at, spec, state, seq, claim, gateway, cancel_at, cancel_reason, finished_at, run FROM tasks WHERE gateway = $1 AND no < $2 ORDER BY no DESC LIMIT 5
SELECT no, id, tenant, pool, class, session, created_at, spec, state, seq, claim, gateway, cancel_at, cancel_reason, finished_at, run FROM tasks WHERE gateway = $1 ORDER BY no DESC LIMIT 101
SELECT no, id, tenant, pool, class, session, created_at, spec, state, seq, claim, gateway, cancel_at, cancel_reason, finished_at, run FROM tasks WHERE gateway = $1 ORDER BY no DESC LIMIT 5
SELECT no, id, tenant, pool, class, session, created_at, spec, state, seq, claim, gateway, cancel_at, cancel_reason, finished_at, run FROM tasks WHERE id = $1
SELECT no, id, tenant, pool, class, session, created_at, spec, state, seq, claim, gateway, cancel_at, cancel_reason, finished_at, run FROM tasks WHERE no < $1 ORDER BY no DESC LIMIT 5
SELECT no, id, tenant, pool, class, session, created_at, spec, state, seq, claim, gateway, cancel_at, cancel_reason, finished_at, run FROM tasks WHERE no IN (SELECT l.no FROM task_labels l WHERE l.key = $1 AND sha256(l.value) = sha256($2) AND l.value = $3) AND no < $4 ORDER BY no DESC LIMIT 5
SELECT no, id, tenant, pool, class, session, created_at, spec, state, seq, claim, gateway, cancel_at, cancel_reason, finished_at, run FROM tasks WHERE no IN (SELECT l.no FROM task_labels l WHERE l.key = $1 AND sha256(l.value) = sha256($2) AND l.value = $3) ORDER BY no DESC LIMIT 101
SELECT no, id, tenant, pool, class, session, created_at, spec, state, seq, claim, gateway, cancel_at, cancel_reason, finished_at, run FROM tasks WHERE no IN (SELECT l.no FROM task_labels l WHERE l.key = $1 AND sha256(l.value) = sha256($2) AND l.value = $3) ORDER BY no DESC LIMIT 5
SELECT no, id, tenant, pool, class, session, created_at, spec, state, seq, claim, gateway, cancel_at, cancel_reason, finished_at, run FROM tasks WHERE no IN (SELECT l.no FROM task_labels l WHERE l.key = $1) AND no < $2 ORDER BY no DESC LIMIT 5
SELECT no, id, tenant, pool, class, session, created_at, spec, state, seq, claim, gateway, cancel_at, cancel_reason, finished_at, run FROM tasks WHERE no IN (SELECT l.no FROM task_labels l WHERE l.key = $1) ORDER BY no DESC LIMIT 101
SELECT no, id, tenant, pool, class, session, created_at, spec, state, seq, claim, gateway, cancel_at, cancel_reason, finished_at, run FROM tasks WHERE no IN (SELECT l.no FROM task_labels l WHERE l.key = $1) ORDER BY no DESC LIMIT 5
SELECT no, id, tenant, pool, class, session, created_at, spec, state, seq, claim, gateway, cancel_at, cancel_reason, finished_at, run FROM tasks WHERE open AND pool = $1 AND id > $2 ORDER BY id LIMIT $3
SELECT no, id, tenant, pool, class, session, created_at, spec, state, seq, claim, gateway, cancel_at, cancel_reason, finished_at, run FROM tasks WHERE pool = $1 AND no < $2 ORDER BY no DESC LIMIT 5
SELECT no, id, tenant, pool, class, session, created_at, spec, state, seq, claim, gateway, cancel_at, cancel_reason, finished_at, run FROM tasks WHERE pool = $1 AND pool <> 'default' AND no < $2 ORDER BY no DESC LIMIT 5
SELECT no, id, tenant, pool, class, session, created_at, spec, state, seq, claim, gateway, cancel_at, cancel_reason, finished_at, run FROM tasks WHERE pool = $1 AND pool <> 'default' ORDER BY no DESC LIMIT 101
SELECT no, id, tenant, pool, class, session, created_at, spec, state, seq, claim, gateway, cancel_at, cancel_reason, finished_at, run FROM tasks WHERE pool = $1 AND pool <> 'default' ORDER BY no DESC LIMIT 5
SELECT no, id, tenant, pool, class, session, created_at, spec, state, seq, claim, gateway, cancel_at, cancel_reason, finished_at, run FROM tasks WHERE pool = $1 ORDER BY no DESC LIMIT 101
SELECT no, id, tenant, pool, class, session, created_at, spec, state, seq, claim, gateway, cancel_at, cancel_reason, finished_at, run FROM tasks WHERE pool = $1 ORDER BY no DESC LIMIT 5
SELECT no, id, tenant, pool, class, session, created_at, spec, state, seq, claim, gateway, cancel_at, cancel_reason, finished_at, run FROM tasks WHERE session <> '' AND ended IS NOT NULL AND session = $1 AND ($2::text = '' OR tenant = $2) ORDER BY ended DESC LIMIT $3
SELECT no, id, tenant, pool, class, session, created_at, spec, state, seq, claim, gateway, cancel_at, cancel_reason, finished_at, run FROM tasks WHERE session <> '' AND session = $1 AND no < $2 ORDER BY no DESC LIMIT 5
SELECT no, id, tenant, pool, class, session, created_at, spec, state, seq, claim, gateway, cancel_at, cancel_reason, finished_at, run FROM tasks WHERE session <> '' AND session = $1 AND state = ANY ($2) AND open AND no IN (SELECT l.no FROM task_labels l WHERE l.key = $3) ORDER BY no DESC LIMIT 101
SELECT no, id, tenant, pool, class, session, created_at, spec, state, seq, claim, gateway, cancel_at, cancel_reason, finished_at, run FROM tasks WHERE session <> '' AND session = $1 AND state = ANY ($2) AND open AND no IN (SELECT l.no FROM task_labels l WHERE l.key = $3) ORDER BY no DESC LIMIT 5
SELECT no, id, tenant, pool, class, session, created_at, spec, state, seq, claim, gateway, cancel_at, cancel_reason, finished_at, run FROM tasks WHERE session <> '' AND session = $1 ORDER BY no DESC LIMIT 101
SELECT no, id, tenant, pool, class, session, created_at, spec, state, seq, claim, gateway, cancel_at, cancel_reason, finished_at, run FROM tasks WHERE session <> '' AND session = $1 ORDER BY no DESC LIMIT 5
SELECT no, id, tenant, pool, class, session, created_at, spec, state, seq, claim, gateway, cancel_at, cancel_reason, finished_at, run FROM tasks WHERE state = ANY ($1) AND failed IS NOT NULL AND failed = ANY ($2) AND no < $3 ORDER BY no DESC LIMIT 5
SELECT no, id, tenant, pool, class, session, created_at, spec, state, seq, claim, gateway, cancel_at, cancel_reason, finished_at, run FROM tasks WHERE state = ANY ($1) AND failed IS NOT NULL AND failed = ANY ($2) ORDER BY no DESC LIMIT 101
SELECT no, id, tenant, pool, class, session, created_at, spec, state, seq, claim, gateway, cancel_at, cancel_reason, finished_at, run FROM tasks WHERE state = ANY ($1) AND failed IS NOT NULL AND failed = ANY ($2) ORDER BY no DESC LIMIT 5
SELECT no, id, tenant, pool, class, session, created_at, spec, state, seq, claim, gateway, cancel_at, cancel_reason, finished_at, run FROM tasks WHERE state = ANY ($1) AND gateway = $2 AND tenant = $3 AND tenant <> 'default' AND pool = $4 AND pool <> 'default' AND class = $5 AND no < $6 ORDER BY no DESC LIMIT 5
SELECT no, id, tenant, pool, class, session, created_at, spec, state, seq, claim, gateway, cancel_at, cancel_reason, finished_at, run FROM tasks WHERE state = ANY ($1) AND gateway = $2 AND tenant = $3 AND tenant <> 'default' AND pool = $4 AND pool <> 'default' AND class = $5 ORDER BY no DESC LIMIT 101
SELECT no, id, tenant, pool, class, session, created_at, spec, state, seq, claim, gateway, cancel_at, cancel_reason, finished_at, run FROM tasks WHERE state = ANY ($1) AND gateway = $2 AND tenant = $3 AND tenant <> 'default' AND pool = $4 AND pool <> 'default' AND class = $5 ORDER BY no DESC LIMIT 5
SELECT no, id, tenant, pool, class, session, created_at, spec, state, seq, claim, gateway, cancel_at, cancel_reason, finished_at, run FROM tasks WHERE state = ANY ($1) AND no < $2 ORDER BY no DESC LIMIT 5
SELECT no, id, tenant, pool, class, session, created_at, spec, state, seq, claim, gateway, cancel_at, cancel_reason, finished_at, run FROM tasks WHERE state = ANY ($1) AND open AND no < $2 ORDER BY no DESC LIMIT 5
SELECT no, id, tenant, pool, class, session, created_at, spec, state, seq, claim, gateway, cancel_at, cancel_reason, finished_at, run FROM tasks WHERE state = ANY ($1) AND open AND pool = $2 AND pool <> 'default' AND no < $3 ORDER BY no DESC LIMIT 5
SELECT no, id, tenant, pool, class, session, created_at, spec, state, seq, claim, gateway, cancel_at, cancel_reason, finished_at, run FROM tasks WHERE state = ANY ($1) AND open AND pool = $2 AND pool <> 'default' ORDER BY no DESC LIMIT 101
SELECT no, id, tenant, pool, class, session, created_at, spec, state, seq, claim, gateway, cancel_at, cancel_reason, finished_at, run FROM tasks WHERE state = ANY ($1) AND open AND pool = $2 AND pool <> 'default' ORDER BY no DESC LIMIT 5
SELECT no, id, tenant, pool, class, session, created_at, spec, state, seq, claim, gateway, cancel_at, cancel_reason, finished_at, run FROM tasks WHERE state = ANY ($1) AND open ORDER BY no DESC LIMIT 101
SELECT no, id, tenant, pool, class, session, created_at, spec, state, seq, claim, gateway, cancel_at, cancel_reason, finished_at, run FROM tasks WHERE state = ANY ($1) AND open ORDER BY no DESC LIMIT 5
SELECT no, id, tenant, pool, class, session, created_at, spec, state, seq, claim, gateway, cancel_at, cancel_reason, finished_at, run FROM tasks WHERE state = ANY ($1) ORDER BY no DESC LIMIT 101
SELECT no, id, tenant, pool, class, session, created_at, spec, state, seq, claim, gateway, cancel_at, cancel_reason, finished_at, run FROM tasks WHERE state = ANY ($1) ORDER BY no DESC LIMIT 5
SELECT no, id, tenant, pool, class, session, created_at, spec, state, seq, claim, gateway, cancel_at, cancel_reason, finished_at, run FROM tasks WHERE tenant = $1 AND no < $2 ORDER BY no DESC LIMIT 5
SELECT no, id, tenant, pool, class, session, created_at, spec, state, seq, claim, gateway, cancel_at, cancel_reason, finished_at, run FROM tasks WHERE tenant = $1 AND tenant <> 'default' AND no < $2 ORDER BY no DESC LIMIT 5
SELECT no, id, tenant, pool, class, session, created_at, spec, state, seq, claim, gateway, cancel_at, cancel_reason, finished_at, run FROM tasks WHERE tenant = $1 AND tenant <> 'default' ORDER BY no DESC LIMIT 101
SELECT no, id, tenant, pool, class, session, created_at, spec, state, seq, claim, gateway, cancel_at, cancel_reason, finished_at, run FROM tasks WHERE tenant = $1 AND tenant <> 'default' ORDER BY no DESC LIMIT 5
SELECT no, id, tenant, pool, class, session, created_at, spec, state, seq, claim, gateway, cancel_at, cancel_reason, finished_at, run FROM tasks WHERE tenant = $1 ORDER BY no DESC LIMIT 101
SELECT no, id, tenant, pool, class, session, created_at, spec, state, seq, claim, gateway, cancel_at, cancel_reason, finished_at, run FROM tasks WHERE tenant = $1 ORDER BY no DESC LIMIT 5
SELECT seq FROM counters
SELECT seq FROM pool_seqs WHERE pool = $1
SELECT seq, hash FROM audit_head
SELECT seq, time, tenant, actor, action, target, request_id, detail, hash FROM audit WHERE ($1 = '' OR tenant = $1) AND ($2::bigint <= 0 OR seq < $2) ORDER BY seq DESC LIMIT $3
SELECT seq, time, tenant, actor, action, target, request_id, detail, hash FROM audit WHERE seq > $1 ORDER BY seq LIMIT $2
UPDATE api_keys SET version = version + is_active::int, is_active = false WHERE key_id = $1 RETURNING 1
UPDATE gateways SET tenant=$2, pool=$3, node=$4, region=$5, url=$6, token=$7, max_concurrency=$8, weight=$9, capabilities=$10::json, labels=$11::json, managed=$12::json, drained=$13, version=version+1 WHERE id=$1 AND version=$14 RETURNING id, tenant, pool, node, region, url, token, max_concurrency, weight, capabilities::text, labels::text, managed::text, drained, version, created_at
UPDATE ownership SET owner = '' WHERE scope = $1 AND key = $2 AND owner = $3 AND epoch = $4 AND owner <> '' RETURNING epoch
UPDATE pools SET tenant=$2, max_concurrency=$3, limits=$4::json, reserved=$5::json, aging_seconds=$6, away_seconds=$7, version=version+1 WHERE id=$1 AND version=$8 RETURNING id, tenant, max_concurrency, limits::text, reserved::text, aging_seconds, away_seconds, version, created_at
WITH RECURSIVE p (pool) AS ( SELECT min(pool) FROM tasks WHERE open UNION ALL SELECT (SELECT min(t.pool) FROM tasks t WHERE t.open AND t.pool > p.pool) FROM p WHERE p.pool IS NOT NULL ) SELECT pool FROM p WHERE pool IS NOT NULL
WITH before AS (SELECT id, password_hash FROM users WHERE id = $1 AND version = $6 FOR UPDATE), after AS (UPDATE users SET email = $2, password_hash = $3, role = $4, tenant = $5, version = version + 1 WHERE id = (SELECT id FROM before) RETURNING id, email, password_hash, role, tenant, created_at, version), ended AS (DELETE FROM sessions WHERE user_id = (SELECT id FROM before WHERE password_hash <> $3)) SELECT id, email, password_hash, role, tenant, created_at, version FROM after
WITH gone AS (DELETE FROM events WHERE first_seq = ANY (ARRAY (SELECT first_seq FROM events WHERE first_seq < coalesce((SELECT first_seq FROM events WHERE time >= $1 ORDER BY first_seq LIMIT 1), 9223372036854775807) ORDER BY first_seq LIMIT $2)) RETURNING 1) SELECT count(*) FROM gone
WITH gone AS (DELETE FROM nodes WHERE expires < clock_timestamp() - interval '1 hour' AND id <> $1), mine AS (INSERT INTO nodes AS n (id, addr, region, version, sees, expires) VALUES ($1, $2, $3, $4, $5, clock_timestamp() + $6::bigint * interval '1 microsecond') ON CONFLICT (id) DO UPDATE SET addr = excluded.addr, region = excluded.region, version = excluded.version, sees = excluded.sees, expires = excluded.expires RETURNING id, addr, region, version, sees, expires) SELECT id, addr, region, version, sees, expires FROM mine UNION ALL SELECT id, addr, region, version, sees, expires FROM nodes WHERE id <> $1 AND expires > clock_timestamp() ORDER BY id
WITH gone AS (DELETE FROM tasks WHERE no = ANY (ARRAY (SELECT no FROM tasks WHERE no < $1 + (SELECT drift FROM counters) AND NOT open AND finished_at < $1 ORDER BY no LIMIT $2 FOR UPDATE SKIP LOCKED)) RETURNING no), labels AS (DELETE FROM task_labels WHERE no = ANY (ARRAY (SELECT no FROM gone))) SELECT count(*) FROM gone
WITH head AS ( UPDATE audit_head SET seq = seq + 1, hash = sha256(hash || int8send(seq + 1) || $8::bytea) RETURNING seq, hash) INSERT INTO audit (seq, time, tenant, actor, action, target, request_id, detail, hash) SELECT seq, $1, $2, $3, $4, $5, $6, $7, hash FROM head RETURNING seq, time, tenant, actor, action, target, request_id, detail, hash
WITH used AS ( SELECT k.id, u.at FROM unnest($1::text[], $2::timestamptz[]) AS u (key_id, at) JOIN api_keys k USING (key_id) ORDER BY k.id FOR UPDATE OF k) UPDATE api_keys k SET last_used_at = greatest(k.last_used_at, used.at) FROM used WHERE k.id = used.id RETURNING 1
SELECT status, first, bad, held, tasks, generations FROM commit_batch_v1($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22, $23, $24)
