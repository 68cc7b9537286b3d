-- Set how many recipients a campaign has, and where the input ended behind its last one; mark it due.
-- A completed campaign is active again, until the workers have passed these ends.
-- KEYS: campaign, due
-- ARGV: campaign, expected number or '' to keep it, end offsets or '' if there are more to come
if ARGV[2] ~= '' then
  redis.call('HSET', KEYS[1], 'expected', ARGV[2])
end
if ARGV[3] ~= '' then
  redis.call('HSET', KEYS[1], 'closed', ARGV[3])
else
  redis.call('HDEL', KEYS[1], 'closed')
end
if redis.call('HGET', KEYS[1], 'state') == 'completed' then
  redis.call('HSET', KEYS[1], 'state', 'active')
end
redis.call('HSET', KEYS[2], ARGV[1], redis.call('HINCRBY', KEYS[2], '', 1))
return 1
