-- The reconciler's script: runs whose lease is over go back to the queue (or are given up), runs whose time has come
-- are queued, and the oldest finished runs that still have jobs to settle are named.
-- ARGV: prefix, stalls that make a run dead, its error (JSON), how many of each at most
-- Returns {{run, 'stalled' | 'dead' | 'cancelled', worker}, ...}, {run to settle, ...}
local lost = {}
for _, run in ipairs(redis.call('ZRANGEBYSCORE', LEASES, '-inf', now, 'LIMIT', 0, ARGV[4])) do
  local record = redis.call('HMGET', run_key(run), 'worker', 'cancel')
  redis.call('ZREM', LEASES, run)
  redis.call('HDEL', run_key(run), 'fence', 'progress')
  local stalls = redis.call('HINCRBY', run_key(run), 'stalls', 1)
  count('stalls')
  local action = 'stalled'
  if record[2] then
    action = 'cancelled'
    conclude(run, 'cancelled')
  elseif stalls >= tonumber(ARGV[2]) then
    action = 'dead'
    conclude(run, 'dead', 'error', ARGV[3])
  else
    enqueue(run, true)
    emit('run', run, 'state', 'queued')
  end
  lost[#lost + 1] = { run, action, record[1] or '' }
end
for _, run in ipairs(redis.call('ZRANGEBYSCORE', DELAYED, '-inf', now, 'LIMIT', 0, ARGV[4])) do
  redis.call('ZREM', DELAYED, run)
  enqueue(run, true)
  emit('run', run, 'state', 'queued')
end
return { lost, redis.call('ZRANGE', SETTLING, 0, ARGV[4] - 1) }
