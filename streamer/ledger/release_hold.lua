-- Release a hold.
-- KEYS: holds, probes, batches of the hold, doubted domains
-- ARGV: field, 'operator' or 'answer', `since` of the hold that is meant, or ''
-- Returns 1, or 0 if there is no hold, if only an operator may release it, or if another hold has
-- replaced it. When an operator releases an account's hold put by responses, the sender domains
-- of the batches that drew them become doubted.
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
