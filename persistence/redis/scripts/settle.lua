-- settle ends the doubt about a batch whose answer was lost: if it was not
-- applied its number is used up, so that it cannot take effect any more should
-- it still arrive.
--
-- KEYS[1]  prefix of all keys
-- ARGV     1 dataset id, 2 writer id, 3 number of the batch in doubt
-- returns  {"APPLIED"}, {"BURNT"} or {"LOST", dataset, batch, number found}
local P, call = KEYS[1], redis.call
local meta = call('HMGET', P .. 'meta', 'dataset', 'batch')
local number, found = tonumber(ARGV[3]), 0
local seen = call('HGET', P .. 'writer', ARGV[2])
if seen then found = tonumber(string.match(seen, '^(%d+)')) end
if meta[1] ~= ARGV[1] or (found ~= number and found ~= number - 1) then
  return {'LOST', meta[1] or '', tonumber(meta[2] or 0), found}
end
if found == number then return {'APPLIED'} end
local now = call('TIME')
call('HSET', P .. 'writer', ARGV[2], ARGV[3] .. ' 0 0  ' .. now[1] .. string.format('%06d', tonumber(now[2])))
call('HDEL', P .. 'writer:currents', ARGV[2])
return {'BURNT'}
