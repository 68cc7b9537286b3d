-- Where the claims of a campaign are, and what they say. Prepended to the scripts that use them.
--
-- PREFIX CAMPAIGN is a string, the head: the number of buckets (4 bytes), the length of a topic's
-- name (1 byte), the name, then the ids of the campaign's batches (12 bytes each).
-- PREFIX CAMPAIGN/N is a hash, bucket N: by claim field (12 bytes of the address' hash), the number
-- of the batch in the head (4 bytes), the item (1 byte), the record (see compact.py), and the
-- record's topic unless it is the head's.
--
-- Buckets stay so small that Redis keeps them in its compact encoding, and there are no more of them
-- than that takes: they are split one by one as the campaign grows (linear hashing). A claim in
-- bucket N of 2^k + m buckets has its hash modulo 2^(k+1), or modulo 2^k if there is no such bucket.

local ID = 12
-- Splitting starts when a bucket has more claims than this. Larger buckets would take a little less
-- memory and more time. Redis' own limit of the compact encoding, hash-max-listpack-entries, is 512.
local LIMIT = 64
-- Claims live a little longer than they must, so that a bucket's time is set again once in as many
-- seconds, not for each claim: each EXPIRE also goes to the append-only file and to the replicas.
local SLACK = 3600

-- Claim field number i, from 1, of several.
local function field_at(fields, i)
  return string.sub(fields, i * ID - ID + 1, i * ID)
end

-- The layout of a campaign's claims. `ids` is where the batches' ids start in the head, 0 if the
-- campaign has no claims yet; `older` is the prefix of the hashes in which the version before kept
-- its claims, or false if there are none.
local function open(prefix, campaign, older)
  local key = prefix .. campaign
  local head = redis.call('GETRANGE', key, 0, 253)
  local claims = {key = key, buckets = 1, low = 1, ids = 0, older = older and older .. campaign}
  if head ~= '' then
    local length = string.byte(head, 5)
    claims.topic = string.sub(head, 6, 5 + length)
    claims.ids = 5 + length
    claims.buckets = struct.unpack('>I4', head)
    while claims.low * 2 <= claims.buckets do
      claims.low = claims.low * 2
    end
  end
  return claims
end

-- The key of the bucket of a claim field.
local function bucket_of(claims, field)
  local hash = struct.unpack('>I4', field)
  local number = hash % (claims.low * 2)
  if number >= claims.buckets then
    number = hash % claims.low
  end
  return claims.key .. '/' .. number
end

-- The key under which the version before kept the claim on a field.
local function older_bucket(claims, field)
  local high, low = string.byte(field, 1, 2)
  return claims.older .. ':' .. (high * 256 + low) % 8192
end

-- What a claim says: the batch's id, the item (1 byte), the record and its topic.
local function said(claims, value)
  local at = claims.ids + ID * struct.unpack('>I4', value)
  local sizes = string.byte(value, 6) - 128
  local length = 7 + math.floor(sizes / 16) + sizes % 16
  return redis.call('GETRANGE', claims.key, at, at + ID - 1) .. string.sub(value, 5)
    .. (#value == length and claims.topic or '')
end

-- What the claim on a field in its bucket says, or false; of the version before, it has the record
-- as text.
local function find_claim(claims, field, bucket)
  local value = redis.call('HGET', bucket, field)
  if value then
    return said(claims, value)
  end
  return claims.older and redis.call('HGET', older_bucket(claims, field), field)
end

-- Remove the claim on a field if it is this batch's.
local function remove_claim(claims, field, batch)
  local bucket = bucket_of(claims, field)
  local claim = find_claim(claims, field, bucket)
  if claim and string.sub(claim, 1, ID) == batch then
    if redis.call('HDEL', bucket, field) == 0 then
      redis.call('HDEL', older_bucket(claims, field), field)
    end
  end
end

-- Let a key live for at least so many seconds from now. It never lives shorter than before: workers
-- with other settings could have given it a longer time.
local function keep(key, seconds)
  if redis.call('PTTL', key) < seconds * 1000 then
    redis.call('EXPIRE', key, seconds + SLACK)
  end
end

-- Let what leads to the buckets live for at least as long as `keep` lets a bucket live.
local function keep_head(claims, ttl)
  keep(claims.key, ttl + SLACK)
end

-- Add a bucket, and move the claims to it that belong there: about half of one other bucket. They
-- are written before they are removed, so that none is missing whatever fails in between.
local function split(claims, ttl)
  local new, source = claims.buckets, claims.key .. '/' .. claims.buckets - claims.low
  local found = redis.call('HGETALL', source)
  local written, removed = {}, {}
  for i = 1, #found, 2 do
    if struct.unpack('>I4', found[i]) % (claims.low * 2) == new then
      removed[#removed + 1] = found[i]
      written[#written + 1] = found[i]
      written[#written + 1] = found[i + 1]
    end
  end
  if #removed > 0 then
    redis.call('HSET', claims.key .. '/' .. new, unpack(written))
    keep(claims.key .. '/' .. new, ttl)
  end
  claims.buckets = new + 1
  if claims.buckets == claims.low * 2 then
    claims.low = claims.buckets
  end
  redis.call('SETRANGE', claims.key, 0, struct.pack('>I4', claims.buckets))
  if #removed > 0 then
    redis.call('HDEL', source, unpack(removed))
  end
end
