-- renew writes a node's row and lists the valid ones; rows whose lease is over go.
--
-- KEYS[1]  prefix of all keys
-- ARGV     1 node id, 2 time to live in microseconds, 3 the encoded node, 4 dataset id
-- returns  {now, id, expires, row, id, expires, row ...}, times in microseconds
--          as texts, or {"LOST", dataset}
local P, call, fmt = KEYS[1], redis.call, string.format
local dataset = call('HGET', P .. 'meta', 'dataset')
if dataset ~= ARGV[4] then return {'LOST', dataset or ''} end
local t = call('TIME')
local now = tonumber(t[1]) * 1e6 + tonumber(t[2])
call('HSET', P .. 'node', ARGV[1], fmt('%016.0f', now + tonumber(ARGV[2])) .. ARGV[3])
local all = call('HGETALL', P .. 'node')
local out = {fmt('%.0f', now)}
for i = 1, #all, 2 do
  local expires = string.sub(all[i + 1], 1, 16)
  if tonumber(expires) > now then
    local n = #out
    out[n + 1], out[n + 2], out[n + 3] = all[i], expires, string.sub(all[i + 1], 17)
  else
    call('HDEL', P .. 'node', all[i])
  end
end
return out
