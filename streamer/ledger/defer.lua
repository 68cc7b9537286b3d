-- Lay a batch down of which its owner knows that Resend took nothing.
-- KEYS: epoch of the slot, batch
-- ARGV: epoch, name of the owner ('' for who pinned it)
-- Answers {'clean'} if nobody else can have sent it either, {'kept'} if somebody may have, or
-- {'epoch'}. It lives no longer for that: were it sent after its claims had ended, its members
-- could be claimed, and mailed, again.
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return {'epoch'}
end
local batch = redis.call('HMGET', KEYS[2], 'owner', 'unsure', 'body')
if (batch[1] or '') ~= ARGV[2] or batch[2] or not batch[3] then
  return {'kept'}
end
redis.call('HSET', KEYS[2], 'laid_down', 1)
return {'clean'}
