-- Removes blobs that were last stored longer ago than an age, the oldest first.
-- KEYS: the ids of a part by time. ARGV: what the blobs' names begin with, age in ms, how many at most
-- Returns how many were removed.
local call = redis.call
local now = call('TIME')
local oldest_kept = now[1] * 1000 + math.floor(now[2] / 1000) - ARGV[2]
local old = call('ZRANGEBYSCORE', KEYS[1], '-inf', oldest_kept, 'LIMIT', 0, ARGV[3])
for _, id in ipairs(old) do
  call('UNLINK', ARGV[1] .. id)
  call('ZREM', KEYS[1], id)
end
return #old
