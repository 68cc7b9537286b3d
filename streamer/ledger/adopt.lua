-- Take a batch over, to send it again.
-- KEYS: epoch of the slot, batch
-- ARGV: epoch, name of the new owner
-- If every call for it so far was refused for certain, and its owner laid it down, its age starts
-- anew; otherwise somebody may have sent it, and from now on nobody can say that nobody did.
-- Answers {'batch', age in ms, body, result, account, sender, learned}, all from the body on false
-- where absent, or {'epoch'}. Run again by the same owner it changes nothing.
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return {'epoch'}
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
-- Not negative, should Redis' clock have been put back: the window would be longer for it.
local age = math.max(0, now - (redis.call('HGET', KEYS[2], 'pinned_at') or now))
return {'batch', age, unpack(redis.call('HMGET', KEYS[2], 'body', 'result', 'account', 'sender',
  'learned'))}
