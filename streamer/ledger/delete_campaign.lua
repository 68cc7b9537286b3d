-- Delete a campaign's definition and state before its first recipient was read.
-- KEYS: campaign, its earlier definitions, its last mails
-- Returns 'deleted', or 'begun' if a worker has read a recipient.
if redis.call('HEXISTS', KEYS[1], 'begun') == 1 then
  return 'begun'
end
redis.call('DEL', KEYS[1], KEYS[2], KEYS[3])
return 'deleted'
