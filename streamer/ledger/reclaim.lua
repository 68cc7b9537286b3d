-- Claim again what a ledger has forgotten, and forget what must not be sent any more. Running it
-- again changes nothing.
-- KEYS: epoch of the slot, mark of older claims
-- ARGV: epoch, claims prefix, batches prefix, results prefix, topic of the records, time to live in
--       seconds, members, claim fields (12 bytes each), ids (12 bytes each), records (see
--       compact.py)
-- members: one line each: kind TAB campaign TAB batch id in hex whose claim the record replaces TAB
--          the record as text, as claims of the version before have it
-- kind: sent     the record has an outcome, by which the batch of this id sent it
--       decided  the record has another outcome, which names that batch
--       skipped  the record has an outcome without a batch: it has no claim
--       unknown  the record has no outcome, and may have been sent: claimed by a batch of this id,
--                which does not exist
-- A batch without a result that claims a member is deleted: a batch that was pinned later may have
-- sent the same mail. What remains claimed by it ends as `ledger_lost`.
-- Returns {'done', a word for each member}: kept, claimed, removed, lost (of kind unknown: its fate
-- stays unknown), or {'epoch'}. The other keys are in the slot of KEYS because the prefixes contain
-- the hash tag.
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return {'epoch'}
end
local ttl = tonumber(ARGV[6])
local older = redis.call('EXISTS', KEYS[2]) == 1 and KEYS[2] .. ':'

local function to_hex(id)
  return (string.gsub(id, '.', function(byte) return string.format('%02x', string.byte(byte)) end))
end

local function has_result(id)
  return redis.call('EXISTS', ARGV[4] .. to_hex(id)) == 1
    or redis.call('HEXISTS', ARGV[3] .. to_hex(id), 'result') == 1
end

local function is_unresolved(id)
  return redis.call('HEXISTS', ARGV[3] .. to_hex(id), 'body') == 1 and not has_result(id)
end

local function forget_unresolved(id)
  if is_unresolved(id) then
    redis.call('DEL', ARGV[3] .. to_hex(id))
  end
end

local opened, touched = {}, {}

local function claim(claims, field, id, record)
  if claims.ids == 0 then
    claims.topic = ARGV[5]
    claims.ids = 5 + #claims.topic
    redis.call('SET', claims.key, struct.pack('>I4B', 1, #claims.topic) .. claims.topic)
  end
  claims.numbers = claims.numbers or {}
  if not claims.numbers[id] then
    local length = redis.call('APPEND', claims.key, id)
    claims.numbers[id] = struct.pack('>I4', (length - claims.ids) / ID - 1)
  end
  local value = claims.numbers[id] .. string.char(0) .. record
  if claims.topic ~= ARGV[5] then
    value = value .. ARGV[5]
  end
  local bucket = bucket_of(claims, field)
  redis.call('HSET', bucket, field, value)
  keep(bucket, ttl)
  keep_head(claims, ttl)
  touched[bucket] = claims
end

local words, at, i = {}, 1, 0
local pattern = '([^\t]*)\t([^\t]*)\t([^\t]*)\t([^\n]*)\n'
for kind, campaign, replaces, text in string.gmatch(ARGV[7], pattern) do
  i = i + 1
  local claims = opened[campaign] or open(ARGV[2], campaign, older)
  opened[campaign] = claims
  local field, id = field_at(ARGV[8], i), field_at(ARGV[9], i)
  local sizes = string.byte(ARGV[10], at) - 128
  local last = at + 1 + math.floor(sizes / 16) + sizes % 16
  local record = string.sub(ARGV[10], at, last)
  at = last + 1

  local found = find_claim(claims, field, bucket_of(claims, field))
  local holder = found and string.sub(found, 1, ID)
  local holds = found and string.sub(found, ID + 2)
  local is_own = found and (holds == record .. ARGV[5] or holds == text)
  local word = 'kept'
  if kind == 'skipped' then
    if is_own and not has_result(holder) then
      forget_unresolved(holder)
      remove_claim(claims, field, holder)
      word = 'removed'
    end
  elseif not found then
    claim(claims, field, id, record)
    word = kind == 'unknown' and 'lost' or 'claimed'
  elseif is_own then
    if kind == 'unknown' then
      if not has_result(holder) then
        forget_unresolved(holder)
        word = 'lost'
      end
    elseif holder ~= id then
      forget_unresolved(holder)
      claim(claims, field, id, record)
      word = 'claimed'
    else
      forget_unresolved(holder)
    end
  elseif kind == 'unknown' then
    if replaces ~= '' and to_hex(holder) == replaces then
      claim(claims, field, id, record)
      word = 'lost'
    end
  elseif kind == 'sent' then
    -- The holder's claim was replaced by a retry, or it was unpinned.
    forget_unresolved(holder)
    claim(claims, field, id, record)
    word = 'claimed'
  elseif not is_unresolved(holder) then
    claim(claims, field, id, record)
    word = 'claimed'
  end
  words[i] = word
end
for bucket, claims in pairs(touched) do
  if redis.call('HLEN', bucket) > LIMIT then
    split(claims, ttl)
  end
end
return {'done', words}
