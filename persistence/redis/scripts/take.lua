-- take makes a node owner if there is none or the owner's lease is over.
--
-- KEYS[1]  prefix of all keys
-- ARGV     1 field "<scope>:<key>", 2 node id, 3 dataset id
-- returns  {"OK", epoch}, {"OWNED", owner} or {"LOST", dataset}
local P, call = KEYS[1], redis.call
local meta = call('HMGET', P .. 'meta', 'dataset', 'floor')
if meta[1] ~= ARGV[3] then return {'LOST', meta[1] or ''} end
local epoch, owner = 0, ''
local have = call('HGET', P .. 'owner', ARGV[1])
if have then
  local at = string.find(have, '\0', 1, true)
  epoch, owner = tonumber(string.sub(have, 1, at - 1)), string.sub(have, at + 1)
end
if owner == ARGV[2] then return {'OK', epoch} end
if owner ~= '' then
  local row, t = call('HGET', P .. 'node', owner), call('TIME')
  if row and tonumber(string.sub(row, 1, 16)) > tonumber(t[1]) * 1e6 + tonumber(t[2]) then return {'OWNED', owner} end
end
-- After a loss of data epochs start above all that were ever given.
epoch = math.max(epoch, tonumber(meta[2] or 0)) + 1
call('HSET', P .. 'owner', ARGV[1], string.format('%.0f', epoch) .. '\0' .. ARGV[2])
return {'OK', epoch}
