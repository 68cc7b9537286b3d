-- Take the account's next free send slot (GCRA without a burst), unless its calls are held back.
-- KEYS: epoch of the slot, limiter, health, holds
-- ARGV: epoch, interval between slots in microseconds, sender's domain, 1 to take a slot although
--       there is a hold; in microseconds from now the furthest slot that is given, and the longest
--       pause that there can be
-- Answers {'slot', microseconds to wait, failures in a row, successes}, {'held', field of the
-- hold}, {'later', microseconds after which to ask again} where the circuit is open or no slot is
-- near, or {'epoch'}. A slot is taken for good.
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
-- While the circuit is open, whoever asks first after each pause makes the one call.
local pause = tonumber(health[4] or 0)
-- No later than a pause from now, should Redis' clock have been put back; so below.
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
