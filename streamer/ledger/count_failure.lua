-- Count a failed call whose cause may be the provider.
-- KEYS: health, failing batches
-- ARGV: batch, name of the call, then the pause in microseconds after 1, 2, 3, … consecutive
--       failures; the last value applies to all higher numbers
-- Returns {consecutive failures, total successes, milliseconds since the first of the failures,
--          batches that failed since the last success}. Running it again for the same call counts
--          nothing twice.
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local failures = tonumber(redis.call('HGET', KEYS[1], 'failures') or 0)
if redis.call('HGET', KEYS[2], ARGV[1]) ~= ARGV[2] then
  failures = redis.call('HINCRBY', KEYS[1], 'failures', 1)
  if failures == 1 then
    redis.call('HSET', KEYS[1], 'since', string.format('%.0f', now))
  end
  redis.call('HSET', KEYS[2], ARGV[1], ARGV[2])
  redis.call('EXPIRE', KEYS[2], 86400)
  local pause = tonumber(ARGV[math.min(failures + 2, #ARGV)])
  if pause > 0 then
    redis.call('HSET', KEYS[1], 'pause', pause, 'probe_at', string.format('%.0f', now + pause))
  end
end
local since = tonumber(redis.call('HGET', KEYS[1], 'since') or now)
return {failures, tonumber(redis.call('HGET', KEYS[1], 'successes') or 0),
  math.floor((now - since) / 1000), redis.call('HLEN', KEYS[2])}
