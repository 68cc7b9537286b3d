-- Store a batch's result, unless it has one, in place of the batch.
-- KEYS: epoch of the slot, batch, the batch's result
-- ARGV: epoch, name of the owner ('' for the worker that pinned it), result, time to live in
--       seconds
-- What is stored is: account LF pinned_at LF result.
-- Returns {'stored'}, {'resolved', what is already stored}, {'result', the result that an earlier
-- version stored}, {'taken over'}, {'lost'} if the batch does not exist, or {'epoch'}.
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return {'epoch'}
end
local resolved = redis.call('GET', KEYS[3])
if resolved then
  return {'resolved', resolved}
end
local batch = redis.call('HMGET', KEYS[2], 'result', 'owner', 'account', 'pinned_at')
if batch[1] then
  return {'result', batch[1]}
end
if redis.call('HEXISTS', KEYS[2], 'body') == 0 then
  return {'lost'}
end
if (batch[2] or '') ~= ARGV[2] then
  return {'taken over'}
end
-- A string of its own takes a third of the memory of the rest of the hash.
redis.call('SET', KEYS[3], batch[3] .. '\n' .. batch[4] .. '\n' .. ARGV[3], 'EX', ARGV[4])
redis.call('DEL', KEYS[2])
return {'stored'}
