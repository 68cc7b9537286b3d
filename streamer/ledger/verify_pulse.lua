-- Look whether the ledger lacks one of these pulses. If so, set it back to before, so that every
-- worker notices: whoever did not may have raised the pulse since writes were lost.
-- KEYS: pulse, last pulses drawn, since when it is being rebuilt; in the slot of the epoch
-- ARGV: pulses that the ledger must have
-- Returns the pulse as text or false, and the last key's value or false.
local pulse = redis.call('GET', KEYS[1])
local oldest = redis.call('ZRANGE', KEYS[2], 0, 0, 'WITHSCORES')[2]
for _, needed in ipairs(ARGV) do
  -- Those before the oldest are too many to be kept.
  if pulse and oldest and tonumber(needed) > tonumber(oldest) and tonumber(needed) <= tonumber(pulse)
    and not redis.call('ZSCORE', KEYS[2], needed) then
    pulse = redis.call('ZREVRANGEBYSCORE', KEYS[2], needed, '-inf', 'LIMIT', 0, 1)[1]
    redis.call('SET', KEYS[1], pulse)
    redis.call('ZREMRANGEBYSCORE', KEYS[2], '(' .. pulse, '+inf')
  end
end
return {pulse, redis.call('GET', KEYS[3])}
