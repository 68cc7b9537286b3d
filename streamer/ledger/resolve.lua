-- Store a batch's result, unless it has one, and delete its body.
-- KEYS: epoch of the slot, batch
-- ARGV: epoch, name of the owner ('' for the worker that pinned it), result, time to live in
--       seconds
-- Returns {'stored'}, {'result', the result already stored}, {'taken over'}, {'lost'} if the batch
-- does not exist, or {'epoch'}.
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return {'epoch'}
end
local batch = redis.call('HMGET', KEYS[2], 'result', 'owner')
if batch[1] then
  return {'result', batch[1]}
end
if redis.call('HEXISTS', KEYS[2], 'body') == 0 then
  return {'lost'}
end
if (batch[2] or '') ~= ARGV[2] then
  return {'taken over'}
end
redis.call('HSET', KEYS[2], 'result', ARGV[3])
redis.call('HDEL', KEYS[2], 'body', 'learned', 'campaigns')
redis.call('EXPIRE', KEYS[2], ARGV[4])
return {'stored'}
