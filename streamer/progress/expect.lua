-- Set the expected number of recipients of a campaign, and mark it due.
-- KEYS: campaign, due
-- ARGV: campaign, expected
redis.call('HSET', KEYS[1], 'expected', ARGV[2])
redis.call('HSET', KEYS[2], ARGV[1], redis.call('HINCRBY', KEYS[2], '', 1))
return 1
