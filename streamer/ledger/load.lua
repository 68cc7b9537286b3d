-- Read a batch, without taking it over.
-- KEYS: epoch of the slot, batch
-- ARGV: epoch
-- Answers {'batch', age in ms, body, result, account, sender, learned, laid_down, unpinned,
-- campaigns, expires_at}, all from the body on false where absent, or {'epoch'}.
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return {'epoch'}
end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
-- Not negative, should Redis' clock have been put back: the window would be longer for it.
local age = math.max(0, now - (redis.call('HGET', KEYS[2], 'pinned_at') or now))
return {'batch', age, unpack(redis.call('HMGET', KEYS[2], 'body', 'result', 'account', 'sender',
  'learned', 'laid_down', 'unpinned', 'campaigns', 'expires_at'))}
