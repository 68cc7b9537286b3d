-- Add what events say about recipients to a campaign's counts, each once however often it comes.
-- KEYS: counts, due, then the buckets of the recipients
-- ARGV: campaign, seconds to keep what is counted, number of flags, their names, then for each
--       recipient: index of its bucket in KEYS, its field, flags, when it unsubscribed and
--       resubscribed, in ms since 1970 or 0
-- A field's value is `FLAGS` or `FLAGS:UNSUBSCRIBED:RESUBSCRIBED`.
-- Returns the counts as HGETALL.
local names = tonumber(ARGV[3])
local touched, changed = {}, false
for i = 4 + names, #ARGV, 5 do
  local key, field = KEYS[tonumber(ARGV[i])], ARGV[i + 1]
  local flags, unsubscribed, resubscribed = 0, 0, 0
  local stored = redis.call('HGET', key, field)
  if stored then
    local f, u, r = string.match(stored, '^(%d+):?(%d*):?(%d*)$')
    flags, unsubscribed, resubscribed = tonumber(f), tonumber(u) or 0, tonumber(r) or 0
  end
  local was = unsubscribed > resubscribed
  local new = bit.bor(flags, tonumber(ARGV[i + 2]))
  unsubscribed = math.max(unsubscribed, tonumber(ARGV[i + 3]))
  resubscribed = math.max(resubscribed, tonumber(ARGV[i + 4]))
  local is = unsubscribed > resubscribed
  for n = 0, names - 1 do
    local flag = bit.lshift(1, n)
    if bit.band(new, flag) ~= 0 and bit.band(flags, flag) == 0 then
      redis.call('HINCRBY', KEYS[1], ARGV[4 + n], 1)
      changed = true
    end
  end
  if is ~= was then
    redis.call('HINCRBY', KEYS[1], 'unsubscribed', is and 1 or -1)
    changed = true
  end
  local value = tostring(new)
  if unsubscribed > 0 or resubscribed > 0 then
    value = string.format('%d:%.0f:%.0f', new, unsubscribed, resubscribed)
  end
  if value ~= stored then
    redis.call('HSET', key, field, value)
    touched[key] = true
  end
end
for key in pairs(touched) do
  redis.call('EXPIRE', key, ARGV[2])
end
if changed then
  redis.call('EXPIRE', KEYS[1], ARGV[2])
  redis.call('HSET', KEYS[2], ARGV[1], redis.call('HINCRBY', KEYS[2], '', 1))
end
return redis.call('HGETALL', KEYS[1])
