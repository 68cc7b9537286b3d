-- Expire the counts of a finished campaign, and drop the campaign once they have expired.
-- KEYS: progress, campaign, campaigns with counts
-- ARGV: campaign, seconds to keep unchanged counts
local state = redis.call('HGET', KEYS[2], 'state')
local ttl = redis.call('TTL', KEYS[1])
if ttl == -2 then
  redis.call('SREM', KEYS[3], ARGV[1])
elseif state ~= 'completed' and state ~= 'cancelled' then
  redis.call('PERSIST', KEYS[1])
elseif ttl == -1 then
  redis.call('EXPIRE', KEYS[1], ARGV[2])
  if state == 'completed' and redis.call('HEXISTS', KEYS[2], 'definition') == 0 then
    redis.call('EXPIRE', KEYS[2], ARGV[2])  -- unlisted once its counts have expired
  end
end
return 1
