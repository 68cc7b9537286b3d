-- Change a campaign's state.
-- KEYS: campaign
-- ARGV: new state, then the states that it may come from
-- Answers the state that it has now: the new one, or the one that did not allow it.
local state = redis.call('HGET', KEYS[1], 'state') or 'active'
for i = 2, #ARGV do
  if state == ARGV[i] then
    redis.call('HSET', KEYS[1], 'state', ARGV[1])
    -- Who says so by hand does not wait for the time that was planned.
    redis.call('HDEL', KEYS[1], 'start_at')
    return ARGV[1]
  end
end
return state
