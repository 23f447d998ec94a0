-- Counts one request of a key by the server's clock; pace.take in local.go is
-- the same rule. Nothing is written for a request that is refused.
-- KEYS[1]  the microsecond to which the key has spent
-- ARGV     1 microseconds that pay for one request, 2 microseconds the key may be ahead
-- returns  {1 counted | 0 refused, microseconds the key is ahead now}
local t = redis.call('TIME')
local now = t[1] * 1000000 + t[2]
local every, room = tonumber(ARGV[1]), tonumber(ARGV[2])
local ahead = math.min(math.max(tonumber(redis.call('GET', KEYS[1]) or 0) - now, 0), room)
if ahead + every > room then
  return {0, ahead}
end
ahead = ahead + every
redis.call('SET', KEYS[1], string.format('%.0f', now + ahead), 'PX', math.ceil(ahead / 1000))
return {1, ahead}
