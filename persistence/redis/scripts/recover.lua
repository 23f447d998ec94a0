-- recover opens and ends the rebuilding of a store that has lost data. While it
-- is open the dataset is "recovering:<new>", which no writer but the rebuilding
-- one expects.
--
-- KEYS[1]  prefix of all keys
-- ARGV     1 "begin" or "finish", 2 token of the rebuilding process, 3 dataset
--          that the caller knows, 4 new dataset, 5 least batch counter, 6 least
--          seq, 7 shards
-- returns  begin: {"GO", dataset, batch found}, {"ADOPT", dataset, batch, seq}
--          (another process has rebuilt it), {"BUSY"} (another is at it) or
--          {"FOREIGN", dataset} (a store of somebody else);
--          finish: {"OK"} or {"BUSY"}
local P, call, fmt = KEYS[1], redis.call, string.format
local function int(n) return fmt('%.0f', n) end
local lock = P .. 'recover'
local m = call('HMGET', P .. 'meta', 'dataset', 'batch', 'seq', 'found', 'from', 'no', 'drift', 'ended')
local dataset = m[1] or ''
if ARGV[1] == 'finish' then
  if call('GET', lock) ~= ARGV[2] then return {'BUSY'} end
  call('HSET', P .. 'meta', 'dataset', ARGV[4])
  call('HDEL', P .. 'meta', 'found')
  call('DEL', lock)
  return {'OK'}
end
local under = string.sub(dataset, 1, 11) == 'recovering:'
if dataset ~= '' and dataset ~= ARGV[3] then
  if m[5] ~= ARGV[3] then return {'FOREIGN', dataset} end
  if not under then return {'ADOPT', dataset, tonumber(m[2]), tonumber(m[3])} end
end
local owner = call('GET', lock)
if owner and owner ~= ARGV[2] then return {'BUSY'} end
call('SET', lock, ARGV[2], 'EX', 30)
local batch, seq = tonumber(m[2] or 0), tonumber(m[3] or 0)
local found = tonumber(m[4] or batch)
if not under then
  -- Epochs go on above the milliseconds since 1970: whoever gives one in less
  -- than a millisecond each has not lived yet.
  local now = call('TIME')
  local floor = now[1] .. fmt('%03d', math.floor(tonumber(now[2]) / 1000))
  -- Counters go on above all that were ever given. Owners, leases and writers
  -- of before must come back by themselves; what is left of the log would hide
  -- its own hole.
  batch, seq = math.max(batch, tonumber(ARGV[5])) + 1e6, math.max(seq, tonumber(ARGV[6])) + 1e3
  call('HSET', P .. 'meta', 'batch', int(batch), 'seq', int(seq), 'no', m[6] or 0, 'drift', m[7] or 0, 'ended', m[8] or 0,
    'floor', floor, 'shards', ARGV[7], 'found', int(found), 'from', ARGV[3])
  call('DEL', P .. 'owner', P .. 'node', P .. 'writer', P .. 'writer:currents', P .. 'log')
end
call('HSET', P .. 'meta', 'dataset', 'recovering:' .. ARGV[4])
return {'GO', 'recovering:' .. ARGV[4], found}
