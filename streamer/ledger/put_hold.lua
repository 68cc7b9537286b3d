-- Hold an account, or a sender's domain within it. An operator's hold stays what it is, and of the
-- answers' the latest trouble counts.
-- KEYS: holds, probes, batches of the hold, batches of a hold of the sender's domain, doubted domains
-- ARGV: field, hold (JSON), 'operator' or 'answer', its reason, ms until it is tested, sender's domain
--       or '', batch or ''
-- Answers {1 if there was no such hold before, else 0, field}. The account is not held for the answer
-- to a doubted domain, which alone had drawn it before an operator released the account: that
-- domain is. Run again it answers the same.
local field, batches = ARGV[1], KEYS[3]
local existing = redis.call('HGET', KEYS[1], field)
if field == '*' and not existing and redis.call('SISMEMBER', KEYS[5], ARGV[6]) == 1 then
  field, batches = ARGV[6], KEYS[4]
  existing = redis.call('HGET', KEYS[1], field)
  redis.call('EXPIRE', KEYS[5], 86400)
end
local held = existing and cjson.decode(existing)
local is_new = ARGV[3] == 'operator' or not held
  or (held['by'] ~= 'operator' and held['reason'] ~= ARGV[4])
if is_new then
  redis.call('HSET', KEYS[1], field, ARGV[2])
  local time = redis.call('TIME')
  local now = time[1] * 1000 + math.floor(time[2] / 1000)
  redis.call('HSET', KEYS[2], field, string.format('%.0f', now + ARGV[5]))
end
if ARGV[7] ~= '' then
  local entry = ARGV[7] .. ' ' .. ARGV[6]
  redis.call('LREM', batches, 0, entry)
  redis.call('RPUSH', batches, entry)
  redis.call('LTRIM', batches, -1000, -1)
end
return {(is_new or existing == ARGV[2]) and 1 or 0, field}
