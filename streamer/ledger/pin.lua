-- Claim every member and store the batch's bytes; if any member may not be mailed, write nothing.
-- KEYS: epoch of the slot, suppression set, batch
-- ARGV: epoch, claims prefix, batch id (12 bytes), members, claim fields (12 bytes each),
--       body, account, time to live in seconds, sender's domain, the members' campaigns, the
--       earliest expiry time of the members (ms since 1970) or ''
-- members: one line each: campaign TAB address TAB record id TAB batch id in hex or nothing. The
--          batch id names a batch that failed the recipient and whose claim this record replaces.
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

local function from_hex(text)
  return (string.gsub(text, '%x%x', function(byte) return string.char(tonumber(byte, 16)) end))
end

local claim_keys, values, addresses, replaced = {}, {}, {}, {}
local count = 0
local line = '([^\t]*)\t([^\t]*)\t([^\t]*)\t([^\n]*)\n'
for campaign, address, coordinates, batch in string.gmatch(ARGV[4], line) do
  local high, low = string.byte(ARGV[5], count * 12 + 1, count * 12 + 2)
  local bucket = (high * 256 + low) % 8192
  claim_keys[count + 1] = ARGV[2] .. campaign .. ':' .. bucket
  values[count + 1] = ARGV[3] .. string.char(count) .. coordinates
  addresses[count + 1] = address
  if batch ~= '' then
    replaced[count + 1] = batch
  end
  count = count + 1
end

local suppressed, conflicts = {}, {}
for i, is_member in ipairs(redis.call('SMISMEMBER', KEYS[2], unpack(addresses))) do
  if is_member == 1 then
    suppressed[#suppressed + 1] = i - 1
  end
end
local fields = {}
for i = 1, count do
  fields[i] = string.sub(ARGV[5], i * 12 - 11, i * 12)
  local claim = redis.call('HGET', claim_keys[i], fields[i])
  if claim and replaced[i] and string.sub(claim, 1, 12) == from_hex(replaced[i]) then
    claim = false
  end
  if claim then
    conflicts[#conflicts + 1] = i - 1
    conflicts[#conflicts + 1] = claim
  end
end
if #suppressed > 0 or #conflicts > 0 then
  return {'conflict', suppressed, conflicts}
end

for i = 1, count do
  redis.call('HSET', claim_keys[i], fields[i], values[i])
  redis.call('EXPIRE', claim_keys[i], ARGV[8])
end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('HSET', KEYS[3], 'body', ARGV[6], 'account', ARGV[7], 'sender', ARGV[9],
  'campaigns', ARGV[10], 'pinned_at', now)
if ARGV[11] ~= '' then
  redis.call('HSET', KEYS[3], 'expires_at', ARGV[11])
end
redis.call('EXPIRE', KEYS[3], ARGV[8])
return {'pinned'}
