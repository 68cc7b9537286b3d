-- Delete a campaign's counts and its due entry.
-- KEYS: progress, due, campaigns with counts
-- ARGV: campaign
redis.call('DEL', KEYS[1])
redis.call('HDEL', KEYS[2], ARGV[1])
redis.call('SREM', KEYS[3], ARGV[1])
if redis.call('EXISTS', KEYS[3]) == 0 and redis.call('HLEN', KEYS[2]) == 1 then
  redis.call('DEL', KEYS[2])
end
return 1
