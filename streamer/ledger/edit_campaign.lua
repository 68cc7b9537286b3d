-- Replace a campaign's definition before its first recipient was read.
-- KEYS: campaign, its earlier definitions
-- ARGV: expected version, definition, version, start_at (seconds since 1970) or '', the replaced
--       version as JSON
-- Returns 'edited', 'missing', 'begun' (a worker has read a recipient: the definition is fixed), or
-- 'changed' (the stored version is another). Running it again after a lost reply returns 'edited'.
local found = redis.call('HMGET', KEYS[1], 'version', 'begun')
if not found[1] then
  return 'missing'
end
if found[1] == ARGV[3] then
  return 'edited'
end
if found[2] then
  return 'begun'
end
if found[1] ~= ARGV[1] then
  return 'changed'
end
redis.call('RPUSH', KEYS[2], ARGV[5])
redis.call('HSET', KEYS[1], 'definition', ARGV[2], 'version', ARGV[3])
if ARGV[4] == '' then
  redis.call('HDEL', KEYS[1], 'start_at')
else
  redis.call('HSET', KEYS[1], 'start_at', ARGV[4])
end
return 'edited'
