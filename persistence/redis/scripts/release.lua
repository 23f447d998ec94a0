-- release empties an owner and keeps its epoch.
--
-- KEYS[1]  prefix of all keys
-- ARGV     1 field "<scope>:<key>", 2 expected "<epoch>\0<owner>", 3 "<epoch>\0"
-- returns  1, or 0 if the fence is out of date
if redis.call('HGET', KEYS[1] .. 'owner', ARGV[1]) ~= ARGV[2] then return 0 end
redis.call('HSET', KEYS[1] .. 'owner', ARGV[1], ARGV[3])
return 1
