-- Undo the pin of a batch that was laid down: Resend has nothing of it, so that its members may be
-- decided about anew.
-- KEYS: epoch of the slot, batch
-- ARGV: epoch, claims prefix, batch id (12 bytes), members' campaigns, one line each, claim fields (12
--       bytes each), seconds for which it is kept that it was unpinned
-- Answers {'unpinned'}, {'kept'} if it is not laid down any more, or {'epoch'}.
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return {'epoch'}
end
local batch = redis.call('HMGET', KEYS[2], 'laid_down', 'unpinned')
if batch[2] then
  return {'unpinned'}
end
if not batch[1] then
  return {'kept'}
end
local count = 0
for campaign in string.gmatch(ARGV[4], '([^\n]*)\n') do
  local field = string.sub(ARGV[5], count * 12 + 1, count * 12 + 12)
  local high, low = string.byte(field, 1, 2)
  local key = ARGV[2] .. campaign .. ':' .. (high * 256 + low) % 8192
  local claim = redis.call('HGET', key, field)
  if claim and string.sub(claim, 1, 12) == ARGV[3] then
    redis.call('HDEL', key, field)
  end
  count = count + 1
end
-- Who still holds one of its claims in memory must not take it for lost.
redis.call('DEL', KEYS[2])
redis.call('HSET', KEYS[2], 'unpinned', 1)
redis.call('EXPIRE', KEYS[2], ARGV[6])
return {'unpinned'}
