-- Complete an active campaign, unless it has changed since the check.
-- KEYS: campaign, due
-- ARGV: campaign, number of the change that was checked
-- Returns its state, or 'changed'. A campaign without a definition is active.
if redis.call('HGET', KEYS[2], ARGV[1]) ~= ARGV[2] then
  return 'changed'
end
local state = redis.call('HGET', KEYS[1], 'state') or 'active'
if state == 'active' then
  redis.call('HSET', KEYS[1], 'state', 'completed')
  return 'completed'
end
return state
