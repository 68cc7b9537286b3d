-- Note the pulse that slots have at least.
-- KEYS: pulses by slot, in the slot of the epoch
-- ARGV: the pulse, the epoch keys of the slots
for i = 2, #ARGV do
  if tonumber(redis.call('HGET', KEYS[1], ARGV[i]) or '0') < tonumber(ARGV[1]) then
    redis.call('HSET', KEYS[1], ARGV[i], ARGV[1])
  end
end
return {}
