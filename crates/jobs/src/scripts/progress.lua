-- Records how far a run is. ARGV: prefix, keep, run, fence, progress (JSON). Returns 1, or 0 when the caller lost it.
local run = call('HMGET', key('run', ARGV[3]), 'state', 'claim')
if not run[1] or string.sub(run[1], 1, 7) ~= 'running' or string.match(run[2] or '', '^%S+') ~= ARGV[4] then return 0 end
call('HSET', key('run', ARGV[3]), 'progress', ARGV[5])
emit('run', ARGV[3], 'running')
flush()
return 1
