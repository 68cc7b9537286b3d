-- Raise the pulse of a slot, unless it is lower than it should be.
-- KEYS: the slot's pulse
-- ARGV: the lowest pulse that it can have, the new one
-- Returns the pulse that it had, as text.
local last = redis.call('GET', KEYS[1]) or '0'
if tonumber(last) >= tonumber(ARGV[1]) and tonumber(last) < tonumber(ARGV[2]) then
  redis.call('SET', KEYS[1], ARGV[2])
end
return last
