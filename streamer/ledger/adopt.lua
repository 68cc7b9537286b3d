-- Adopt a batch in order to send it again.
-- KEYS: epoch of the slot, batch, the batch's result
-- ARGV: epoch, name of the new owner
-- If the batch is deferred (its previous owner's calls were all rejected for certain), its age
-- restarts. Otherwise a previous owner may have sent it: `unsure` is set and never cleared.
-- Returns {'resolved', what `resolve` stored}, or {'batch', age in ms, body, result of an earlier
-- version, account, sender, learned}, where each field from body on is false if absent, or
-- {'epoch'}. Running it again for the same owner changes nothing.
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return {'epoch'}
end
local resolved = redis.call('GET', KEYS[3])
if resolved then
  return {'resolved', resolved}
end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local batch = redis.call('HMGET', KEYS[2], 'body', 'owner', 'laid_down')
if batch[1] and batch[2] ~= ARGV[2] then
  if batch[3] then
    redis.call('HDEL', KEYS[2], 'laid_down')
    redis.call('HSET', KEYS[2], 'pinned_at', now)
  else
    redis.call('HSET', KEYS[2], 'unsure', 1)
  end
  redis.call('HSET', KEYS[2], 'owner', ARGV[2])
end
-- At least 0, in case Redis' clock was set back: a negative age would extend the safe window.
local age = math.max(0, now - (redis.call('HGET', KEYS[2], 'pinned_at') or now))
return {'batch', age, unpack(redis.call('HMGET', KEYS[2], 'body', 'result', 'account', 'sender',
  'learned'))}
