-- Complete a campaign that was judged so, unless it has changed since.
-- KEYS: campaign, due
-- ARGV: campaign, number of the change that was judged
-- Answers its state, or 'changed'. One that nobody defined is active.
if redis.call('HGET', KEYS[2], ARGV[1]) ~= ARGV[2] then
  return 'changed'
end
local state = redis.call('HGET', KEYS[1], 'state') or 'active'
if state == 'active' then
  redis.call('HSET', KEYS[1], 'state', 'completed')
  return 'completed'
end
return state
