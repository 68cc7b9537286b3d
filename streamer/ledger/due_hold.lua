-- Assign the next test of a hold to one caller.
-- KEYS: holds, probes, batches of the hold
-- ARGV: field, ms until the next test
-- Returns the batch to test with (round-robin), '' if there is none, or false if the test is not
-- due, the hold does not exist, or it is an operator's. If the reply is lost, this test is skipped
-- and the next one takes place as usual.
local existing = redis.call('HGET', KEYS[1], ARGV[1])
local by = existing and cjson.decode(existing)['by']
if not existing or by == 'operator' then
  return false
end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
-- A later due time means that Redis' clock was set back, or that the hold waits for its end.
local due = tonumber(redis.call('HGET', KEYS[2], ARGV[1]) or 0)
if now < due and (by == 'event' or due <= now + ARGV[2]) then
  return false
end
redis.call('HSET', KEYS[2], ARGV[1], string.format('%.0f', now + ARGV[2]))
return redis.call('LMOVE', KEYS[3], KEYS[3], 'LEFT', 'RIGHT') or ''
