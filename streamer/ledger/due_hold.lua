-- Give one caller the turn to test a hold.
-- KEYS: holds, probes, batches of the hold
-- ARGV: field, ms until the next test
-- Answers the batch to test it with, each in turn, '' if there is none, or false if it is not due, not
-- there, or an operator's. A turn whose reply is lost is nobody's: the next one comes.
local existing = redis.call('HGET', KEYS[1], ARGV[1])
if not existing or cjson.decode(existing)['by'] == 'operator' then
  return false
end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
-- A test is never further away than that, should Redis' clock have been put back.
local due = tonumber(redis.call('HGET', KEYS[2], ARGV[1]) or 0)
if now < due and due <= now + ARGV[2] then
  return false
end
redis.call('HSET', KEYS[2], ARGV[1], string.format('%.0f', now + ARGV[2]))
return redis.call('LMOVE', KEYS[3], KEYS[3], 'LEFT', 'RIGHT') or ''
