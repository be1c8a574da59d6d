-- Takes one call out of a bucket (GCRA). KEYS: the bucket. ARGV: the time that a call costs in microseconds, the burst.
-- The bucket is the time at which it is full again. Returns: 1 or 0 for admitted or not, calls that are left, microseconds
-- until it is full, microseconds until a call is admitted.
local cost, burst = tonumber(ARGV[1]), tonumber(ARGV[2])
local clock = redis.call('TIME')
local now = tonumber(clock[1]) * 1000000 + tonumber(clock[2])
local full = math.max(tonumber(redis.call('GET', KEYS[1]) or now), now)
-- A smaller burst than the bucket was filled by, or a clock that was set back, must not shut anybody out for long.
full = math.min(full, now + cost * burst)
local admitted, wait = 0, full + cost - cost * burst - now
if wait <= 0 then
  admitted, full, wait = 1, full + cost, 0
  redis.call('SET', KEYS[1], string.format('%.0f', full), 'PX', math.ceil((full - now) / 1000))
  if full + cost - cost * burst > now then wait = full + cost - cost * burst - now end
end
local left = math.floor((now + cost * burst - full) / cost)
return { admitted, left, full - now, wait }
