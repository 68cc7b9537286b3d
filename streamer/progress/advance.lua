-- Advance the positions up to which partitions are counted for all campaigns; never move back.
-- KEYS: positions
-- ARGV: generation, then partition, offset, ...
-- Returns 0 if another generation has started.
if redis.call('HGET', KEYS[1], 'generation') ~= ARGV[1] then
  return 0
end
for i = 2, #ARGV, 2 do
  local offset = tonumber(redis.call('HGET', KEYS[1], ARGV[i]) or '0')
  if offset < tonumber(ARGV[i + 1]) then
    redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1])
  end
end
return 1
