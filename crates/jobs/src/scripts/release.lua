-- Hands a run back unfinished: an interruption, which costs no attempt.
-- ARGV: prefix, run, fence. Returns 1, or 0 when the caller had lost it.
local run = ARGV[2]
if not holds(run, ARGV[3]) then return 0 end
redis.call('ZREM', LEASES, run)
redis.call('HINCRBY', run_key(run), 'interruptions', 1)
redis.call('HDEL', run_key(run), 'fence', 'progress')
count('interruptions')
if redis.call('HEXISTS', run_key(run), 'cancel') == 1 then
  conclude(run, 'cancelled')
else
  enqueue(run, true)
  emit('run', run, 'state', 'queued')
end
return 1
