-- Set from which offsets partitions are counted in a generation, where not set yet.
-- KEYS: positions
-- ARGV: generation, then field, offset, ...
-- Returns the offsets in effect; 0 if another generation has started.
if redis.call('HGET', KEYS[1], 'generation') ~= ARGV[1] then
  return 0
end
local said = {}
for i = 2, #ARGV, 2 do
  redis.call('HSETNX', KEYS[1], ARGV[i], ARGV[i + 1])
  table.insert(said, redis.call('HGET', KEYS[1], ARGV[i]))
end
return said
