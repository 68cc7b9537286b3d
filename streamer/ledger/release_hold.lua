-- End a hold.
-- KEYS: holds, probes, batches of the hold, doubted domains
-- ARGV: field, 'operator' or 'answer', since when the hold is that is meant, or ''
-- Answers 1, or 0 if there is none, if only an operator may end it, or if it is another by now. Of an
-- account that an operator releases the domains are doubted whose batches drew the answer.
local existing = redis.call('HGET', KEYS[1], ARGV[1])
if not existing then
  return 0
end
local held = cjson.decode(existing)
if (held['by'] == 'operator' and ARGV[2] ~= 'operator')
  or (ARGV[3] ~= '' and ARGV[3] ~= held['since']) then
  return 0
end
if ARGV[1] == '*' and ARGV[2] == 'operator' and held['by'] ~= 'operator' then
  for _, entry in ipairs(redis.call('LRANGE', KEYS[3], 0, -1)) do
    local domain = string.match(entry, ' (.+)$')
    if domain then
      redis.call('SADD', KEYS[4], domain)
    end
  end
  redis.call('EXPIRE', KEYS[4], 86400)
end
redis.call('HDEL', KEYS[1], ARGV[1])
redis.call('HDEL', KEYS[2], ARGV[1])
redis.call('DEL', KEYS[3])
return 1
