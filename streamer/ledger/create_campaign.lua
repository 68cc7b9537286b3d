-- Define a campaign atomically; an existing definition is kept.
-- KEYS: campaign
-- ARGV: definition, version, created_at, start_at (seconds since 1970) or ''
-- Returns the existing definition, or false if this one was written.
local existing = redis.call('HGET', KEYS[1], 'definition')
if existing then
  return existing
end
redis.call('HSET', KEYS[1], 'definition', ARGV[1], 'version', ARGV[2], 'created_at', ARGV[3])
if ARGV[4] ~= '' then
  redis.call('HSET', KEYS[1], 'start_at', ARGV[4])
end
-- A campaign can be paused or cancelled before it is defined.
redis.call('HSETNX', KEYS[1], 'state', 'active')
return false
