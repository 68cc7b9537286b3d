-- Take the account's next free send slot (GCRA without a burst), unless its calls are held or
-- paused.
-- KEYS: epoch of the slot, limiter, health, holds
-- ARGV: epoch, interval between slots in microseconds, sender's domain, 1 to ignore holds, maximum
--       wait for a slot and maximum pause, both in microseconds
-- Returns {'slot', microseconds to wait, consecutive failures, total successes}, {'held', field of
-- the hold}, {'later', microseconds after which to ask again} if the circuit is open or the next
-- slot exceeds the maximum wait, or {'epoch'}. A slot cannot be given back.
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return {'epoch'}
end
if ARGV[4] ~= '1' then
  for _, field in ipairs({'*', ARGV[3]}) do
    if redis.call('HEXISTS', KEYS[4], field) == 1 then
      return {'held', field}
    end
  end
end
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local health = redis.call('HMGET', KEYS[3], 'failures', 'probe_at', 'successes', 'pause')
local failures = tonumber(health[1] or 0)
local successes = tonumber(health[3] or 0)
-- While the circuit is open, the first caller after each pause makes a single call.
local pause = tonumber(health[4] or 0)
-- At most one pause from now, in case Redis' clock was set back; likewise for the slot below.
local probe_at = math.min(tonumber(health[2] or 0), now + pause)
if probe_at > now then
  return {'later', probe_at - now}
end
local interval = tonumber(ARGV[2])
local slot = math.max(tonumber(redis.call('GET', KEYS[2]) or 0), now)
if slot > now + interval + tonumber(ARGV[6]) then
  slot = now + interval
end
if slot - now > tonumber(ARGV[5]) then
  return {'later', slot - now}
end
if probe_at > 0 then
  redis.call('HSET', KEYS[3], 'probe_at', string.format('%.0f', now + pause))
end
local next_slot = slot + interval
redis.call('SET', KEYS[2], string.format('%.0f', next_slot),
  'PX', math.floor((next_slot - now) / 1000) + 60000)
return {'slot', slot - now, failures, successes}
