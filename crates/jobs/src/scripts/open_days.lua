-- Moves the first day that is held out of a tenant's research on a series, and logs that.
-- ARGV: prefix, keep, tenant, series, first day as the caller knows it, how the series is held out from now on (JSON), what the log says (JSON).
-- Returns 1, or 0 if the series is not held out from that day on (any more).
local vault = key('vault', ARGV[3])
local held_out = call('HGET', vault, ARGV[4])
if not held_out or cjson.decode(held_out).first_day ~= tonumber(ARGV[5]) then return 0 end
call('HSET', vault, ARGV[4], ARGV[6])
call('EXPIRE', vault, kept_trials)
look(ARGV[3], '-', { series = { ARGV[4] }, about = ARGV[7] })
return 1
