-- Look up a batch's members before they are rendered. The only write fixes the definitions of their
-- campaigns: from now on they cannot be edited, so the version returned here stays the right one.
-- KEYS: epoch of the slot, suppression set, mark of older claims, then for each campaign of the
--       members its hash and its last mails
-- ARGV: claims prefix, members, claim fields (12 bytes each)
-- members: one line each: campaign TAB address, which is empty if invalid
-- Returns the slot's epoch or '', {suppressed indexes}, {index, claim, ...}, then for each campaign
-- {state, version, start_at, resumed, 1 if any of its last mails failed, else 0}. The claims' keys
-- are in the slot of KEYS because the prefix contains the hash tag.
local older = redis.call('EXISTS', KEYS[3]) == 1 and KEYS[3] .. ':'
local opened, addresses, suppressed, found = {}, {}, {}, {}
for campaign, address in string.gmatch(ARGV[2], '([^\t]*)\t([^\n]*)\n') do
  local i = #addresses + 1
  addresses[i] = address
  if address ~= '' then
    local claims = opened[campaign] or open(ARGV[1], campaign, older)
    opened[campaign] = claims
    local field = field_at(ARGV[3], i)
    local claim = find_claim(claims, field, bucket_of(claims, field))
    if claim then
      found[#found + 1] = i - 1
      found[#found + 1] = claim
    end
  end
end
for i, is_member in ipairs(redis.call('SMISMEMBER', KEYS[2], unpack(addresses))) do
  if is_member == 1 then
    suppressed[#suppressed + 1] = i - 1
  end
end
local answer = {redis.call('GET', KEYS[1]) or '', suppressed, found}
for i = 4, #KEYS, 2 do
  local campaign = redis.call('HMGET', KEYS[i], 'state', 'version', 'start_at', 'resumed')
  if campaign[2] then
    redis.call('HSETNX', KEYS[i], 'begun', 1)
  end
  campaign[5] = redis.call('EXISTS', KEYS[i + 1])
  answer[#answer + 1] = campaign
end
return answer
