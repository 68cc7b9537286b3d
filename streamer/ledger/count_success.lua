-- Count a call that got through after others failed: the circuit closes.
-- KEYS: health, failing batches
redis.call('HINCRBY', KEYS[1], 'successes', 1)
redis.call('DEL', KEYS[2])
redis.call('HDEL', KEYS[1], 'failures', 'since', 'pause', 'probe_at')
