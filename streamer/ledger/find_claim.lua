-- Look up one claim, also an older one in a slot that this version does not use yet; read-only.
-- KEYS: mark of older claims
-- ARGV: claims prefix, campaign, claim field
-- Returns what the claim says, or false.
local claims = open(ARGV[1], ARGV[2], KEYS[1] .. ':')
return find_claim(claims, ARGV[3], bucket_of(claims, ARGV[3]))
