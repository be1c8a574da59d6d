-- Notes when a key was last used, unless it was revoked meanwhile. KEYS: its record. ARGV: the time in ms. Returns 1 if it is there.
if redis.call('EXISTS', KEYS[1]) == 0 then return 0 end
redis.call('HSET', KEYS[1], 'used', ARGV[1])
return 1
