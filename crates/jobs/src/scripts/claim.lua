-- Claims at most as many runs as fences are given, each under a lease.
-- ARGV: prefix, worker, lease in ms, fence, fence, ...
-- Returns {run, kind, plan, attempt} for each claimed run, in the order of the fences.
local claimed = {}
for i = 4, #ARGV do
  local run
  repeat -- a queued run without a record cannot happen while Redis keeps its data; if it does, it must not block
    run = redis.call('ZPOPMIN', READY)[1]
  until not run or redis.call('HGET', run_key(run), 'state') == 'queued'
  if not run then break end
  redis.call('HSET', run_key(run), 'state', 'running', 'worker', ARGV[2], 'fence', ARGV[i], 'started', now)
  redis.call('HDEL', run_key(run), 'progress')
  redis.call('ZADD', LEASES, now + ARGV[3], run)
  emit('run', run, 'state', 'running')
  count('claims')
  local record = redis.call('HMGET', run_key(run), 'kind', 'plan', 'attempt')
  claimed[#claimed + 1] = { run, record[1], record[2], record[3] + 1 }
end
return claimed
