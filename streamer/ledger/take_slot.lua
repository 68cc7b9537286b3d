-- Take the account's next free send slot (GCRA without a burst).
-- KEYS: epoch of the slot, limiter
-- ARGV: epoch, interval between slots in microseconds
-- Answers {'slot', microseconds to wait}, or {'epoch'}.
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return {'epoch'}
end
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local slot = math.max(tonumber(redis.call('GET', KEYS[2]) or 0), now)
local next_slot = slot + tonumber(ARGV[2])
redis.call('SET', KEYS[2], string.format('%.0f', next_slot),
  'PX', math.floor((next_slot - now) / 1000) + 60000)
return {'slot', slot - now}
