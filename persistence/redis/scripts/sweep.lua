-- sweep removes tasks that are still as the caller read them, with all their
-- index entries and their idempotency keys.
--
-- KEYS[1]  prefix of all keys
-- ARGV     1 dataset id, then for each task: number of its arguments, id, the
--          row, "<tenant>\0<key>" of its idempotency key or "", its session or
--          "", labels
-- returns  how many went, -1: another dataset
local P, call, byte, sub, band = KEYS[1], redis.call, string.byte, string.sub, bit.band
if call('HGET', P .. 'meta', 'dataset') ~= ARGV[1] then return -1 end
local p, gone = 2, {}
while p <= #ARGV do
  local n, id, row = tonumber(ARGV[p]), ARGV[p + 1], ARGV[p + 2]
  if call('HGET', P .. 'task', id) == row then
    gone[#gone + 1] = id
    local field = ARGV[p + 3]
    if field ~= '' then
      local have = call('HGET', P .. 'idem', field)
      if have and sub(have, 3, 2 + byte(have, 1) * 256 + byte(have, 2)) == id then call('HDEL', P .. 'idem', field) end
    end
    if ARGV[p + 4] ~= '' then
      call('ZREM', P .. 'tasks:' .. ARGV[p + 4], id)
      local total, m = byte(row, 27) * 256 + byte(row, 28), byte(row, 29) * 256 + byte(row, 30)
      call('ZREM', P .. 'ended:' .. sub(row, 31 + m, 28 + total), id)
    end
    for k = p + 5, p + n - 1 do call('ZREM', P .. 'label:' .. ARGV[k], id) end
  end
  p = p + n
end
if #gone > 0 then
  for _, key in ipairs({'task', 'spec', 'cancel'}) do call('HDEL', P .. key, unpack(gone)) end
  call('ZREM', P .. 'order', unpack(gone))
  call('ZREM', P .. 'failed', unpack(gone))
end
return #gone
