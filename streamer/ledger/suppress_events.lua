-- Suppress addresses for what events say, or no longer; note why, when and by which campaign.
-- KEYS: suppressed, reasons
-- ARGV: for each event: address, why, time (RFC 3339 in a fixed format, so that texts compare as
--       times do), campaign
-- An event that is not later than one of its kind before changes nothing, so that a repeated one
-- does not suppress again whom an operator has removed. `before` is an address that somebody else
-- had suppressed already: undoing an unsubscription does not take it out.
-- Of an unsubscription and its undoing at the same time the unsubscription wins, in either order.
-- Returns how many addresses were added.
local added = 0
for i = 1, #ARGV, 4 do
  local address, why, at = ARGV[i], ARGV[i + 1], ARGV[i + 2]
  local stored = redis.call('HGET', KEYS[2], address)
  local reasons = stored and cjson.decode(stored) or {}
  if not stored and redis.call('SISMEMBER', KEYS[1], address) == 1 then
    reasons.before = true
  end
  local known = reasons[why]
  if not known or known.at < at then
    reasons[why] = {at = at, campaign = ARGV[i + 3]}
    local others = reasons.before or reasons.bounced or reasons.complained or reasons.suppressed
    if why == 'resubscribed' then
      if reasons.unsubscribed and reasons.unsubscribed.at < at and not others then
        redis.call('SREM', KEYS[1], address)
      end
    elseif why ~= 'unsubscribed' or not reasons.resubscribed or reasons.resubscribed.at <= at then
      added = added + redis.call('SADD', KEYS[1], address)
    end
    redis.call('HSET', KEYS[2], address, cjson.encode(reasons))
  end
end
return added
