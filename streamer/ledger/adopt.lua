-- Take a batch over, to send it again.
-- KEYS: epoch of the slot, batch
-- ARGV: epoch, name of the new owner
-- If every call for it so far was refused for certain, and its owner laid it down, its age starts
-- anew; otherwise somebody may have sent it, and from now on nobody can say that nobody did.
-- Answers {'batch', body, result, account, sender, age in ms}, the first four false where absent,
-- or {'epoch'}.
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return {'epoch'}
end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local batch = redis.call('HMGET', KEYS[2], 'body', 'result', 'account', 'sender', 'pinned_at', 'laid_down')
local pinned_at = batch[5] or now
if batch[1] then
  if batch[6] then
    pinned_at = now
    redis.call('HDEL', KEYS[2], 'laid_down')
    redis.call('HSET', KEYS[2], 'pinned_at', now)
  else
    redis.call('HSET', KEYS[2], 'unsure', 1)
  end
  redis.call('HSET', KEYS[2], 'owner', ARGV[2])
end
return {'batch', batch[1], batch[2], batch[3], batch[4], now - pinned_at}
