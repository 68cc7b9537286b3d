-- Read the projection's generation and positions; start a generation if there is none.
-- KEYS: positions
-- ARGV: '1' to start a new generation, whose positions are all 0
-- Returns the hash. A generation is a time in ms, so a new one is later even if this key was lost.
local generation = redis.call('HGET', KEYS[1], 'generation')
if not generation or ARGV[1] == '1' then
  local time = redis.call('TIME')
  local now = time[1] * 1000 + math.floor(time[2] / 1000)
  local new = math.max(now, tonumber(generation or '0') + 1)
  redis.call('DEL', KEYS[1])
  redis.call('HSET', KEYS[1], 'generation', string.format('%.0f', new))
end
return redis.call('HGETALL', KEYS[1])
