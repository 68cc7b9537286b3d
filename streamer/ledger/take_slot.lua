-- Take the account's next free send slot (GCRA without a burst), unless its calls are held back.
-- KEYS: epoch of the slot, limiter, health, holds
-- ARGV: epoch, interval between slots in microseconds, successes to add to the account's,
--       sender's domain, 1 to take a slot although there is a hold
-- Answers {'slot', microseconds to wait, failures in a row, successes}, {'held', field of the
-- hold}, {'open', microseconds after which to ask again}, or {'epoch'}. A slot is taken for good.
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return {'epoch'}
end
if ARGV[5] ~= '1' then
  for _, field in ipairs({'*', ARGV[4]}) do
    if redis.call('HEXISTS', KEYS[4], field) == 1 then
      return {'held', field}
    end
  end
end
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local health = redis.call('HMGET', KEYS[3], 'failures', 'probe_at', 'successes')
local failures = tonumber(health[1] or 0)
local successes = tonumber(health[3] or 0)
if tonumber(ARGV[3]) > 0 then
  successes = redis.call('HINCRBY', KEYS[3], 'successes', ARGV[3])
end
-- While the circuit is open, whoever asks first after each pause makes the one call.
local probe_at = tonumber(health[2] or 0)
if probe_at > now then
  return {'open', probe_at - now}
end
if probe_at > 0 then
  redis.call('HSET', KEYS[3], 'probe_at', string.format('%.0f', now + redis.call('HGET', KEYS[3], 'pause')))
end
local slot = math.max(tonumber(redis.call('GET', KEYS[2]) or 0), now)
local next_slot = slot + tonumber(ARGV[2])
redis.call('SET', KEYS[2], string.format('%.0f', next_slot),
  'PX', math.floor((next_slot - now) / 1000) + 60000)
return {'slot', slot - now, failures, successes}
