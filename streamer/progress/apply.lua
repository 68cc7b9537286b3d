-- Add a chunk's share to a campaign's counts exactly once.
-- KEYS: progress, due, campaigns with counts
-- ARGV: generation, mark, start, end, campaign, first, last, then field, increment, ...
-- `mark` is the field with the offset before which this partition is counted for this campaign.
-- Returns {'applied'}, also if the share was applied before; {'stale'} if the counts belong to a
-- newer generation; {'partly', offset} if only the records before the offset had been applied.
local generation = redis.call('HGET', KEYS[1], 'generation')
if generation and tonumber(generation) > tonumber(ARGV[1]) then
  return {'stale'}
end
if generation ~= ARGV[1] then
  redis.call('DEL', KEYS[1])
  redis.call('HSET', KEYS[1], 'generation', ARGV[1])
  redis.call('SADD', KEYS[3], ARGV[5])
end
local counted = tonumber(redis.call('HGET', KEYS[1], ARGV[2]) or '0')
if counted >= tonumber(ARGV[4]) then
  return {'applied'}
end
if counted > tonumber(ARGV[3]) then
  return {'partly', counted}
end
for i = 8, #ARGV, 2 do
  redis.call('HINCRBY', KEYS[1], ARGV[i], ARGV[i + 1])
end
if ARGV[6] ~= '' then
  local times = redis.call('HMGET', KEYS[1], 'first', 'last')
  if not times[1] or ARGV[6] < times[1] then
    redis.call('HSET', KEYS[1], 'first', ARGV[6])
  end
  if not times[2] or ARGV[7] > times[2] then
    redis.call('HSET', KEYS[1], 'last', ARGV[7])
  end
end
redis.call('HSET', KEYS[1], ARGV[2], ARGV[4])
redis.call('PERSIST', KEYS[1])  -- changed: sweep.lua sets a new expiry
redis.call('HSET', KEYS[2], ARGV[5], redis.call('HINCRBY', KEYS[2], '', 1))
return {'applied'}
