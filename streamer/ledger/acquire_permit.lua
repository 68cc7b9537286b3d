-- Let a call of the account leave, no sooner than the limit bears.
-- KEYS: departures
-- ARGV: name of the call, calls that may leave together, microseconds in which no more than these
-- Answers the microseconds to wait. The departure counts from then.
local count, period = tonumber(ARGV[2]), tonumber(ARGV[3])
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local at = now
local nth = redis.call('ZRANGE', KEYS[1], -count, -count, 'WITHSCORES')
if nth[2] then
  -- Never later than a period from now, should Redis' clock have been put back.
  at = math.min(math.max(now, nth[2] + period), now + period)
end
redis.call('ZADD', KEYS[1], string.format('%.0f', at), ARGV[1])
redis.call('ZREMRANGEBYRANK', KEYS[1], 0, -count - 1)
redis.call('PEXPIRE', KEYS[1], math.ceil(period / 1000) + 1000)
return at - now
