-- Change a campaign's state and mark its completion as due for a check.
-- KEYS: campaign, due
-- ARGV: campaign, new state, '1' to delete its start time, reason for the pause or '', required
--       value of its `resumed` count or '', then the states from which the change is allowed
-- Returns the campaign's state and start time afterwards: the new state, or the current one if it
-- did not allow the change. Running it again changes nothing more.
local found = redis.call('HMGET', KEYS[1], 'state', 'resumed')
local state, wanted = found[1] or 'active', ARGV[2]
local allowed = ARGV[5] == '' or (found[2] or '0') == ARGV[5]
local comes_from = false
for i = 6, #ARGV do
  comes_from = comes_from or state == ARGV[i]
end
if allowed and comes_from then
  redis.call('HSET', KEYS[1], 'state', wanted)
  if wanted ~= 'paused' then
    redis.call('HDEL', KEYS[1], 'paused_for')
  elseif state ~= 'paused' and ARGV[4] ~= '' then
    redis.call('HSET', KEYS[1], 'paused_for', ARGV[4])
  end
  if wanted == 'active' and state == 'paused' then
    redis.call('HINCRBY', KEYS[1], 'resumed', 1)
  end
  if ARGV[3] == '1' then
    redis.call('HDEL', KEYS[1], 'start_at')
  end
  -- The change may complete the campaign, or make it incomplete again.
  redis.call('HSET', KEYS[2], ARGV[1], redis.call('HINCRBY', KEYS[2], '', 1))
end
return redis.call('HMGET', KEYS[1], 'state', 'start_at')
