-- Say from where on partitions are counted in a generation, where nobody said so before.
-- KEYS: positions
-- ARGV: generation, then field, offset, ...
-- Answers what was said first, of each; 0 if another generation has begun.
if redis.call('HGET', KEYS[1], 'generation') ~= ARGV[1] then
  return 0
end
local said = {}
for i = 2, #ARGV, 2 do
  redis.call('HSETNX', KEYS[1], ARGV[i], ARGV[i + 1])
  table.insert(said, redis.call('HGET', KEYS[1], ARGV[i]))
end
return said
