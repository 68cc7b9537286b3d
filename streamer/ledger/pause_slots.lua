-- Start no further slot of the account for a given time.
-- KEYS: limiter
-- ARGV: microseconds from now
local time = redis.call('TIME')
local until_ = time[1] * 1000000 + time[2] + tonumber(ARGV[1])
if until_ > tonumber(redis.call('GET', KEYS[1]) or 0) then
  redis.call('SET', KEYS[1], string.format('%.0f', until_), 'PX', math.floor(ARGV[1] / 1000) + 60000)
end
