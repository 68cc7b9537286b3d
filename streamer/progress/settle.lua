-- Mark a campaign as no longer due, unless it has changed since the check.
-- KEYS: campaign, due
-- ARGV: campaign, number of the change that was checked, mark of the published summary or ''
if ARGV[3] ~= '' then
  redis.call('HSET', KEYS[1], 'published', ARGV[3])
end
if redis.call('HGET', KEYS[2], ARGV[1]) == ARGV[2] then
  redis.call('HDEL', KEYS[2], ARGV[1])
end
return 1
