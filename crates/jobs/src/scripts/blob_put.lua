-- Stores a blob, or again, which makes it young.
-- KEYS: the blob, the ids of its part by time. ARGV: id, bytes
local call = redis.call
local now = call('TIME')
call('SET', KEYS[1], ARGV[2])
call('ZADD', KEYS[2], now[1] * 1000 + math.floor(now[2] / 1000), ARGV[1])
return redis.status_reply('OK')
