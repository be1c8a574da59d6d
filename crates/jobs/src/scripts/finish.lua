-- Takes the outcome of a run from the worker that holds it.
-- ARGV: prefix, run, fence, 'succeeded', result id, summary (JSON), receipt (JSON), seconds to keep the result
--       prefix, run, fence, 'failed', error (JSON), '1' if worth another attempt, back-off in ms
--       prefix, run, fence, 'cancelled'
-- Returns 'accepted', 'retry' (it will be tried again), or 'refused' (the caller no longer holds the run: counted).
local run, outcome = ARGV[2], ARGV[4]
if not holds(run, ARGV[3]) then
  -- The answer to the caller's own earlier try was lost.
  if redis.call('HGET', run_key(run), 'done') == ARGV[3] then return 'accepted' end
  count('late_results')
  return 'refused'
end
redis.call('HSET', run_key(run), 'done', ARGV[3])

if outcome == 'succeeded' then
  local result = ARGV[5]
  redis.call('DEL', result_key(result))
  redis.call('HSET', result_key(result), 'v', RECORD_VERSION, 'summary', ARGV[6], 'receipt', ARGV[7], 'created', now)
  redis.call('EXPIRE', result_key(result), ARGV[8])
  conclude(run, 'succeeded', 'result', result, 'summary', ARGV[6])
  return 'accepted'
end

if outcome == 'cancelled' then
  conclude(run, 'cancelled')
  return 'accepted'
end

local attempt = redis.call('HINCRBY', run_key(run), 'attempt', 1)
local worth_another = ARGV[6] == '1'
if worth_another and attempt < tonumber(redis.call('HGET', run_key(run), 'max')) then
  redis.call('ZREM', LEASES, run)
  redis.call('HSET', run_key(run), 'state', 'scheduled', 'error', ARGV[5])
  redis.call('HDEL', run_key(run), 'fence')
  redis.call('ZADD', DELAYED, now + ARGV[7], run)
  emit('run', run, 'state', 'scheduled')
  count('retries')
  return 'retry'
end
conclude(run, worth_another and 'dead' or 'failed', 'error', ARGV[5])
return 'accepted'
