-- Read what is known of a campaign's progress at one moment.
-- KEYS: progress, campaign
-- Answers {counts as HGETALL, {state, version, expected, summary}}.
return {
  redis.call('HGETALL', KEYS[1]),
  redis.call('HMGET', KEYS[2], 'state', 'version', 'expected', 'summary'),
}
