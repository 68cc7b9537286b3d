-- A campaign was judged: it is not due any more, unless it has changed since.
-- KEYS: campaign, due
-- ARGV: campaign, number of the change that was judged, digest of a summary that was published
if ARGV[3] ~= '' then
  redis.call('HSET', KEYS[1], 'summary', ARGV[3])
end
if redis.call('HGET', KEYS[2], ARGV[1]) == ARGV[2] then
  redis.call('HDEL', KEYS[2], ARGV[1])
end
return 1
