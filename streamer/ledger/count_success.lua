-- Count successful calls.
-- KEYS: health, failing batches, successes reported by each worker
-- ARGV: worker, number of its successes known to be counted, its total number of successes, 1 if
--       calls had failed before, which closes the circuit
-- A report repeated because the reply was lost is counted once.
local told = math.max(tonumber(redis.call('HGET', KEYS[3], ARGV[1]) or 0), tonumber(ARGV[2]))
local new = tonumber(ARGV[3]) - told
if new > 0 then
  redis.call('HINCRBY', KEYS[1], 'successes', new)
  redis.call('HSET', KEYS[3], ARGV[1], ARGV[3])
  redis.call('EXPIRE', KEYS[3], 86400)
end
if ARGV[4] == '1' then
  redis.call('DEL', KEYS[2])
  redis.call('HDEL', KEYS[1], 'failures', 'since', 'pause', 'probe_at')
end
