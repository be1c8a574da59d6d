-- Removes a blob if it was last stored longer ago than an age.
-- KEYS: the blob, the ids of its part by time. ARGV: id, age in ms
-- Returns 1 if it is gone.
local call = redis.call
local stored = call('ZSCORE', KEYS[2], ARGV[1])
local now = call('TIME')
if stored and tonumber(stored) > now[1] * 1000 + math.floor(now[2] / 1000) - ARGV[2] then return 0 end
call('UNLINK', KEYS[1])
call('ZREM', KEYS[2], ARGV[1])
return 1
