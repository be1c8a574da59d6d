-- Renews a lock, or with 0 ms releases it, if the caller still holds it.
-- KEYS: the lock. ARGV: the holder's token, for how many more milliseconds
-- Returns 1, or 0 when the lock is somebody else's or nobody's.
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
return redis.call('PEXPIRE', KEYS[1], ARGV[2])
