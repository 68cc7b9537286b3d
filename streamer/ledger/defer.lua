-- Defer a batch whose owner knows that Resend accepted none of it.
-- KEYS: epoch of the slot, batch
-- ARGV: epoch, name of the owner ('' for the worker that pinned it)
-- Returns {'clean'} if no other owner can have sent it, {'kept'} if one may have, or {'epoch'}.
-- Its time to live is not extended: if the batch were sent after its claims had expired, its
-- members could be claimed, and mailed, again.
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return {'epoch'}
end
local batch = redis.call('HMGET', KEYS[2], 'owner', 'unsure', 'body')
if (batch[1] or '') ~= ARGV[2] or batch[2] or not batch[3] then
  return {'kept'}
end
redis.call('HSET', KEYS[2], 'laid_down', 1)
return {'clean'}
