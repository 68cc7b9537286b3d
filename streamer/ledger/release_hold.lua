-- End a hold.
-- KEYS: holds, probes, batches of the hold
-- ARGV: field, 'operator' or 'answer'
-- Answers 'released'; 'due' where an operator asks, and a batch can test the hold at once; or
-- false if there is none, or only an operator may end it.
local existing = redis.call('HGET', KEYS[1], ARGV[1])
if not existing then
  return false
end
local by_operator = cjson.decode(existing)['by'] == 'operator'
if by_operator and ARGV[2] ~= 'operator' then
  return false
end
if ARGV[2] == 'operator' and not by_operator and redis.call('LLEN', KEYS[3]) > 0 then
  redis.call('HSET', KEYS[2], ARGV[1], '0')
  return 'due'
end
redis.call('HDEL', KEYS[1], ARGV[1])
redis.call('HDEL', KEYS[2], ARGV[1])
redis.call('DEL', KEYS[3])
return 'released'
