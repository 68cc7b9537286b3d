-- Hold an account, or a sender's domain within it. An operator's hold stays what it is.
-- KEYS: holds, probes, batches of the hold
-- ARGV: field, hold (JSON), 'operator' or 'answer', ms until it is tested, batch or ''
-- Answers 1 if there was no hold.
local existing = redis.call('HGET', KEYS[1], ARGV[1])
if ARGV[3] == 'operator' or not existing then
  redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
  local time = redis.call('TIME')
  local now = time[1] * 1000 + math.floor(time[2] / 1000)
  redis.call('HSET', KEYS[2], ARGV[1], string.format('%.0f', now + ARGV[4]))
end
if ARGV[5] ~= '' then
  redis.call('LREM', KEYS[3], 0, ARGV[5])
  redis.call('RPUSH', KEYS[3], ARGV[5])
  redis.call('LTRIM', KEYS[3], -1000, -1)
end
return existing and 0 or 1
