-- Undo the pin of a deferred batch: Resend has nothing of it, so its members may be decided anew.
-- KEYS: epoch of the slot, batch
-- ARGV: epoch, claims prefix, batch id (12 bytes), members' campaigns, one line each, claim fields
--       (12 bytes each), seconds for which to keep the `unpinned` marker
-- Returns {'unpinned'}, {'kept'} if the batch is no longer deferred, or {'epoch'}.
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
-- The marker stops a worker that still has one of its claims in memory from treating the batch as
-- lost.
redis.call('DEL', KEYS[2])
redis.call('HSET', KEYS[2], 'unpinned', 1)
redis.call('EXPIRE', KEYS[2], ARGV[6])
return {'unpinned'}
