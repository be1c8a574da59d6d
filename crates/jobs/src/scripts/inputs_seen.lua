-- Notes which inputs nobody refers to, by when that was first seen, and forgets those that somebody refers to again.
-- KEYS: the unused inputs by that time. ARGV: how many are unused, their names, the names of those in use
local call = redis.call
local clock = call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local unused = tonumber(ARGV[1])
for i = 2, #ARGV do
  if i <= unused + 1 then
    call('ZADD', KEYS[1], 'NX', string.format('%d', now), ARGV[i])
  else
    call('ZREM', KEYS[1], ARGV[i])
  end
end
return redis.status_reply('OK')
