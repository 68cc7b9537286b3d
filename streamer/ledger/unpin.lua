-- Undo the pin of a deferred batch: Resend has nothing of it, so its members may be decided anew.
-- KEYS: epoch of the slot, batch, the batch's result, mark of older claims
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
local older = redis.call('EXISTS', KEYS[4]) == 1 and KEYS[4] .. ':'
local opened, count = {}, 0
for campaign in string.gmatch(ARGV[4], '([^\n]*)\n') do
  count = count + 1
  opened[campaign] = opened[campaign] or open(ARGV[2], campaign, older)
  remove_claim(opened[campaign], field_at(ARGV[5], count), ARGV[3])
end
-- The marker stops a worker that still has one of its claims in memory from treating the batch as
-- lost.
redis.call('DEL', KEYS[2])
redis.call('HSET', KEYS[2], 'unpinned', 1)
redis.call('EXPIRE', KEYS[2], ARGV[6])
return {'unpinned'}
