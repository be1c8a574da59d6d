-- Removes a blob, if it is there.
-- KEYS: the blob, the ids of its part by time. ARGV: id
redis.call('UNLINK', KEYS[1])
redis.call('ZREM', KEYS[2], ARGV[1])
return redis.status_reply('OK')
