-- Count resolved mails of a campaign and check whether too many of its last mails failed for one
-- reason.
-- KEYS: last mails, campaign
-- ARGV: name of the call, the campaign's `resumed` count when the mails were decided, window size
--       (in mails), maximum number of failures for one reason within the window, number of resolved
--       mails, then a pair (reason, count) for each reason for which some failed
-- Returns {reason, number of failures}, or false. Running it again counts nothing twice.
local name, resumed, window, most = ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
if (redis.call('HGET', KEYS[2], 'resumed') or '0') ~= resumed then
  return false
end
local entries = redis.call('LRANGE', KEYS[1], 0, -1)
local known = false
for _, entry in ipairs(entries) do
  local called, of = string.match(entry, '^(%S+) (%S+)')
  known = known or called == name
  if of ~= resumed then
    redis.call('DEL', KEYS[1])
    entries = {}
    break
  end
end
if not known then
  entries[#entries + 1] = table.concat(ARGV, ' ', 1, 2) .. ' ' .. table.concat(ARGV, ' ', 5)
  redis.call('RPUSH', KEYS[1], entries[#entries])
end
local ended, failed, first = 0, {}, #entries
for i = #entries, 1, -1 do
  local words = {}
  for word in string.gmatch(entries[i], '%S+') do
    words[#words + 1] = word
  end
  ended = ended + words[3]
  for at = 4, #words, 2 do
    failed[words[at]] = (failed[words[at]] or 0) + words[at + 1]
  end
  first = i
  if ended >= window then
    break
  end
end
if next(failed) then
  redis.call('LTRIM', KEYS[1], first - 1, -1)
  redis.call('EXPIRE', KEYS[1], 86400)
else
  redis.call('DEL', KEYS[1])
end
for reason, count in pairs(failed) do
  if count > most then
    return {reason, count}
  end
end
return false
