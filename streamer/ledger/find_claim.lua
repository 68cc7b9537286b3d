-- Look up one claim, also an older one in a slot that this version does not use yet; read-only.
-- KEYS: mark of older claims
-- ARGV: claims prefix, campaign, claim field
-- Returns what the claim says, or false.
return find_claim(open(ARGV[1], ARGV[2], KEYS[1] .. ':'), ARGV[3])
