-- Records how far a run is. ARGV: prefix, run, fence, progress (JSON). Returns 1, or 0 when the caller lost the run.
if not holds(ARGV[2], ARGV[3]) then return 0 end
redis.call('HSET', run_key(ARGV[2]), 'progress', ARGV[4])
emit('run', ARGV[2], 'state', 'running')
return 1
