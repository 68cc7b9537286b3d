-- Read a batch, without taking it over.
-- KEYS: epoch of the slot, batch
-- ARGV: epoch
-- Answers {'batch', body, result, account, sender, age in ms}, the first four false where absent,
-- or {'epoch'}.
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return {'epoch'}
end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local batch = redis.call('HMGET', KEYS[2], 'body', 'result', 'account', 'sender', 'pinned_at')
return {'batch', batch[1], batch[2], batch[3], batch[4], now - (batch[5] or now)}
