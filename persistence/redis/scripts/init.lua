-- init gives an empty store its identity and adds a writer. Writers that have
-- not written for 30 days are forgotten.
--
-- KEYS[1]  prefix of all keys
-- ARGV     1 dataset id for an empty store ("": leave it empty), 2 writer id, 3 shards,
--          4 run id of the server,
--          or nothing
-- returns  {dataset, batch, seq, shards, run id of the server that last rewrote
--          its append-only file, 1: a task history knows the store}; an empty
--          dataset: the store is empty
local P, call = KEYS[1], redis.call
if not call('HGET', P .. 'meta', 'dataset') and ARGV[1] ~= '' then
  call('HSET', P .. 'meta', 'dataset', ARGV[1], 'batch', 0, 'seq', 0, 'no', 0, 'drift', 0, 'ended', 0, 'floor', 0, 'shards', ARGV[3], 'run', ARGV[4] or '')
end
local before = tonumber(call('TIME')[1]) - 30 * 86400
local all = call('HGETALL', P .. 'writer')
for i = 1, #all, 2 do
  local at = string.match(all[i + 1], ' (%d+)$')
  if at and tonumber(at) / 1e6 < before then
    call('HDEL', P .. 'writer', all[i])
    call('HDEL', P .. 'writer:currents', all[i])
  end
end
local m = call('HMGET', P .. 'meta', 'dataset', 'batch', 'seq', 'shards', 'run', 'paired')
return {m[1] or '', tonumber(m[2] or 0), tonumber(m[3] or 0), tonumber(m[4] or 0), m[5] or '', tonumber(m[6] or 0)}
