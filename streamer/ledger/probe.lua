-- Look at a batch's members before they are rendered; nothing is written.
-- KEYS: epoch of the slot, suppression set, then of each campaign that the members are of its hash and
--       its last mails
-- ARGV: claims prefix, members, claim fields (12 bytes each)
-- members: one line each: campaign TAB address, which is empty if it is no valid one
-- Answers the slot's epoch or '', {suppressed indexes}, {index, claim, ...}, then of each campaign
-- its state, version, start_at and resumed, and whether any of its last mails failed. The claims' keys are of the slot of KEYS, as the prefix
-- carries the hash tag.
local addresses, suppressed, claims = {}, {}, {}
for campaign, address in string.gmatch(ARGV[2], '([^\t]*)\t([^\n]*)\n') do
  local count = #addresses
  addresses[count + 1] = address
  if address ~= '' then
    local field = string.sub(ARGV[3], count * 12 + 1, count * 12 + 12)
    local high, low = string.byte(field, 1, 2)
    local claim = redis.call('HGET', ARGV[1] .. campaign .. ':' .. (high * 256 + low) % 8192, field)
    if claim then
      claims[#claims + 1] = count
      claims[#claims + 1] = claim
    end
  end
end
for i, is_member in ipairs(redis.call('SMISMEMBER', KEYS[2], unpack(addresses))) do
  if is_member == 1 then
    suppressed[#suppressed + 1] = i - 1
  end
end
local answer = {redis.call('GET', KEYS[1]) or '', suppressed, claims}
for i = 3, #KEYS, 2 do
  local campaign = redis.call('HMGET', KEYS[i], 'state', 'version', 'start_at', 'resumed')
  campaign[5] = redis.call('EXISTS', KEYS[i + 1])
  answer[#answer + 1] = campaign
end
return answer
