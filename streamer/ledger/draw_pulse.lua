-- Raise the pulse of the ledger, unless it is lower than it should be.
-- KEYS: pulse, last pulses drawn, pulses by slot; in the slot of the epoch
-- ARGV: the lowest pulse that it can have, then the epoch keys of the slots that were used
-- Returns the pulse that it had, the new one (both as text), and what each slot has at least, or
-- false.
local last = redis.call('GET', KEYS[1]) or '0'
if tonumber(last) < tonumber(ARGV[1]) then
  return {last, last}
end
local time = redis.call('TIME')
-- Also if Redis' clock was set back, or is that of another server.
local new = math.max(tonumber(last) + 1, time[1] * 1000 + math.floor(time[2] / 1000))
new = string.format('%.0f', new)
redis.call('SET', KEYS[1], new)
redis.call('ZADD', KEYS[2], new, new)
redis.call('ZREMRANGEBYRANK', KEYS[2], 0, -2001)
local answer = {last, new}
for i = 2, #ARGV do
  answer[i + 1] = redis.call('HGET', KEYS[3], ARGV[i])
end
return answer
