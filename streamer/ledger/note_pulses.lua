-- Note the pulse that slots have at least, if the pulse that was drawn for it is still there.
-- KEYS: last pulses drawn, pulses by slot; in the slot of the epoch
-- ARGV: the pulse that was drawn, the epoch keys of the slots
-- Returns 1, or 0 if another server, which did not have it, took over since.
if not redis.call('ZSCORE', KEYS[1], ARGV[1]) then
  return 0
end
for i = 2, #ARGV do
  if tonumber(redis.call('HGET', KEYS[2], ARGV[i]) or '0') < tonumber(ARGV[1]) then
    redis.call('HSET', KEYS[2], ARGV[i], ARGV[1])
  end
end
return 1
