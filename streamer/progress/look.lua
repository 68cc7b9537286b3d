-- Read what is known of a campaign's progress at one moment.
-- KEYS: progress, campaign
-- Answers {counts as HGETALL, {state, version, expected, summary}}; before its start it is paused.
local found = redis.call('HMGET', KEYS[2], 'state', 'version', 'expected', 'summary', 'start_at')
if found[1] == 'active' and found[5] and tonumber(redis.call('TIME')[1]) < tonumber(found[5]) then
  found[1] = 'paused'
end
return {redis.call('HGETALL', KEYS[1]), {found[1], found[2], found[3], found[4]}}
