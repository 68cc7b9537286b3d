-- Reserve the earliest departure time for a call of the account that the rate limit allows.
-- KEYS: departures
-- ARGV: name of the call, number of calls per period, period in microseconds
-- Returns the microseconds to wait. The departure is recorded at the end of that wait.
local count, period = tonumber(ARGV[2]), tonumber(ARGV[3])
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local at = now
local nth = redis.call('ZRANGE', KEYS[1], -count, -count, 'WITHSCORES')
if nth[2] then
  -- At most one period from now, in case Redis' clock was set back.
  at = math.min(math.max(now, nth[2] + period), now + period)
end
redis.call('ZADD', KEYS[1], string.format('%.0f', at), ARGV[1])
redis.call('ZREMRANGEBYRANK', KEYS[1], 0, -count - 1)
redis.call('PEXPIRE', KEYS[1], math.ceil(period / 1000) + 1000)
return at - now
