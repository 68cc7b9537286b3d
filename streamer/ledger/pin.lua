-- Claim every member and store the batch's bytes; if any member may not be mailed, write nothing.
-- KEYS: epoch of the slot, suppression set, batch, the batch's result, mark of older claims
-- ARGV: epoch, claims prefix, batch id (12 bytes), members, claim fields (12 bytes each), topic of
--       the records, records (see compact.py), body, account, time to live in seconds, sender's
--       domain, the members' campaigns, the earliest expiry time of the members (ms since 1970) or
--       ''
-- members: one line each: campaign TAB address TAB batch id in hex or nothing. The batch id names a
--          batch that failed the recipient and whose claim this record replaces.
-- Returns {'pinned'}, {'conflict', {suppressed indexes}, {index, claim, ...}}, {'taken over'} if an
-- earlier call pinned the batch and it was adopted since, or {'epoch'}. The claims' keys are in the
-- slot of KEYS because the prefix contains the hash tag.
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return {'epoch'}
end
-- The reply of an earlier call was lost. The batch keeps what that call pinned.
if redis.call('EXISTS', KEYS[3]) == 1 then
  return {redis.call('HEXISTS', KEYS[3], 'owner') == 1 and 'taken over' or 'pinned'}
end
if redis.call('EXISTS', KEYS[4]) == 1 then
  return {'taken over'}
end

local ttl = tonumber(ARGV[10])
local marked = redis.call('TTL', KEYS[5])
if marked == -1 then
  -- No more older claims are written: the last of them will have expired by then.
  redis.call('EXPIRE', KEYS[5], ttl)
end
local older = marked ~= -2 and KEYS[5] .. ':'

local function from_hex(text)
  return (string.gsub(text, '%x%x', function(byte) return string.char(tonumber(byte, 16)) end))
end

local opened, suppressed, conflicts = {}, {}, {}
-- By member; a table for each of them would take Redis more time.
local addresses, claims_of, fields, buckets = {}, {}, {}, {}
for campaign, address, replaced in string.gmatch(ARGV[4], '([^\t]*)\t([^\t]*)\t([^\n]*)\n') do
  local claims = opened[campaign] or open(ARGV[2], campaign, older)
  opened[campaign] = claims
  local i = #addresses + 1
  local field = field_at(ARGV[5], i)
  local bucket = bucket_of(claims, field)
  addresses[i], claims_of[i], fields[i], buckets[i] = address, claims, field, bucket
  local claim = find_claim(claims, field, bucket)
  if claim and (replaced == '' or string.sub(claim, 1, ID) ~= from_hex(replaced)) then
    conflicts[#conflicts + 1] = i - 1
    conflicts[#conflicts + 1] = claim
  end
end
for i, is_member in ipairs(redis.call('SMISMEMBER', KEYS[2], unpack(addresses))) do
  if is_member == 1 then
    suppressed[#suppressed + 1] = i - 1
  end
end
if #suppressed > 0 or #conflicts > 0 then
  return {'conflict', suppressed, conflicts}
end

for _, claims in pairs(opened) do
  if claims.ids == 0 then
    claims.topic = ARGV[6]
    claims.ids = 5 + #claims.topic
    redis.call('SET', claims.key, struct.pack('>I4B', 1, #claims.topic) .. claims.topic)
  end
  local length = redis.call('APPEND', claims.key, ARGV[3])
  claims.number = struct.pack('>I4', (length - claims.ids) / ID - 1)
end
local written, at = {}, 1
for i, claims in ipairs(claims_of) do
  local sizes = string.byte(ARGV[7], at) - 128
  local last = at + 1 + math.floor(sizes / 16) + sizes % 16
  local value = claims.number .. string.char(i - 1) .. string.sub(ARGV[7], at, last)
  at = last + 1
  if claims.topic ~= ARGV[6] then
    value = value .. ARGV[6]
  end
  local bucket = buckets[i]
  claims.first = claims.first or bucket
  claims.last = bucket
  local together = written[bucket]
  if together then
    together[#together + 1] = fields[i]
    together[#together + 1] = value
  else
    written[bucket] = {fields[i], value}
  end
end
for bucket, together in pairs(written) do
  redis.call('HSET', bucket, unpack(together))
  keep(bucket, ttl)
end
for _, claims in pairs(opened) do
  -- Buckets fill evenly, so two stand for all: the more of them are over the limit, the more calls
  -- split some. At most two splits for each call keep it short, and are enough for full batches.
  for _, bucket in ipairs({claims.first, claims.last}) do
    if redis.call('HLEN', bucket) > LIMIT then
      split(claims, ttl)
    end
  end
  keep_head(claims, ttl)
end

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('HSET', KEYS[3], 'body', ARGV[8], 'account', ARGV[9], 'sender', ARGV[11],
  'campaigns', ARGV[12], 'pinned_at', now)
if ARGV[13] ~= '' then
  redis.call('HSET', KEYS[3], 'expires_at', ARGV[13])
end
redis.call('EXPIRE', KEYS[3], ttl)
return {'pinned'}
