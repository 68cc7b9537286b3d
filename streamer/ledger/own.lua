-- Check that a batch still has the given owner, and store what that owner learned of its parts.
-- KEYS: epoch of the slot, batch
-- ARGV: epoch, name of the owner ('' for the worker that pinned it), what it learned, or '' if
--       nothing is new
-- Returns {'owned'}, {'taken over'}, or {'epoch'}.
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return {'epoch'}
end
local batch = redis.call('HMGET', KEYS[2], 'owner', 'body')
if (batch[1] or '') ~= ARGV[2] or not batch[2] then
  return {'taken over'}
end
if ARGV[3] ~= '' then
  redis.call('HSET', KEYS[2], 'learned', ARGV[3])
end
return {'owned'}
