-- Read a batch without adopting it.
-- KEYS: epoch of the slot, batch, the batch's result
-- ARGV: epoch
-- Returns {'resolved', what `resolve` stored}, or {'batch', age in ms, body, result of an earlier
-- version, account, sender, learned, laid_down, unpinned, campaigns, expires_at}, where each field
-- from body on is false if absent, or {'epoch'}.
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return {'epoch'}
end
local resolved = redis.call('GET', KEYS[3])
if resolved then
  return {'resolved', resolved}
end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
-- At least 0, in case Redis' clock was set back: a negative age would extend the safe window.
local age = math.max(0, now - (redis.call('HGET', KEYS[2], 'pinned_at') or now))
return {'batch', age, unpack(redis.call('HMGET', KEYS[2], 'body', 'result', 'account', 'sender',
  'learned', 'laid_down', 'unpinned', 'campaigns', 'expires_at'))}
