-- Hold an account, or a sender's domain within it. A response's hold ('answer') never replaces an
-- operator's hold; it replaces another response's hold only if the reason differs.
-- KEYS: holds, probes, batches of the hold, batches of a hold of the sender's domain, doubted
--       domains
-- ARGV: field, hold (JSON), 'operator' or 'answer', its reason, ms until the first test, sender's
--       domain or '', batch or ''
-- Returns {1 if the hold is new, else 0, field}. If the sender's domain is doubted (its batches
-- drew the responses that held the account until an operator released it), the domain is held
-- instead of the account. Running it again returns the same.
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
