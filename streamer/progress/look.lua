-- Read a snapshot of a campaign's progress.
-- KEYS: progress, campaign, counts of events
-- Returns {counts as HGETALL, {state, version, expected, closed, published}, counts of events as
-- HGETALL}; paused before its start.
local found =
  redis.call('HMGET', KEYS[2], 'state', 'version', 'expected', 'closed', 'published', 'start_at')
if found[1] == 'active' and found[6] and tonumber(redis.call('TIME')[1]) < tonumber(found[6]) then
  found[1] = 'paused'
end
return {redis.call('HGETALL', KEYS[1]), {found[1], found[2], found[3], found[4], found[5]},
  redis.call('HGETALL', KEYS[3])}
