-- briefs reads tasks without their long texts: of a long value the two ends.
--
-- KEYS[1]  prefix of all keys
-- ARGV     1 length of a head, 2 of a tail, 3 how many bytes of values may be
--          looked at, then ids
-- returns  for each id: row and spec, each as head, tail and length, and the row
--          of its cancel. It stops early behind the task that used the bytes up:
--          the server does nothing else meanwhile.
local P, call, sub = KEYS[1], redis.call, string.sub
local head, tail, left, out = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]), {}
local function add(v)
  v = v or ''
  left = left - #v
  out[#out + 1] = sub(v, 1, head)
  out[#out + 1] = #v > head and sub(v, math.max(head + 1, #v - tail + 1)) or ''
  out[#out + 1] = #v
end
for i = 4, #ARGV do
  if left <= 0 then break end
  local id = ARGV[i]
  add(call('HGET', P .. 'task', id))
  add(call('HGET', P .. 'spec', id))
  out[#out + 1] = call('HGET', P .. 'cancel', id) or ''
end
return out
