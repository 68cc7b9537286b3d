-- Store a batch's result unless it has one, and drop its body.
-- KEYS: epoch of the slot, batch
-- ARGV: epoch, result, time to live in seconds
-- Answers {'stored'}, {'result', what is stored already}, {'lost'} for a batch that is not there, or
-- {'epoch'}.
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return {'epoch'}
end
local stored = redis.call('HGET', KEYS[2], 'result')
if stored then
  return {'result', stored}
end
if redis.call('HEXISTS', KEYS[2], 'body') == 0 then
  return {'lost'}
end
redis.call('HSET', KEYS[2], 'result', ARGV[2])
redis.call('HDEL', KEYS[2], 'body')
redis.call('EXPIRE', KEYS[2], ARGV[3])
return {'stored'}
