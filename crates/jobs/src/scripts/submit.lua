-- Accepts one job: attaches it to a live identical call, to a cached result, to a run in flight, or queues a new run.
-- ARGV: prefix, job, tenant, kind, priority (0 interactive, 1 normal, 2 batch), mode (use|refresh|off), cache key,
--       call hash, request (JSON), run, plan (JSON), max attempts, seconds to keep a finished record,
--       idempotency key ('' for none), fingerprint of what the client sent
-- Returns {job id, 'known' | 'repeated' | 'cached' | 'joined' | 'queued' | 'conflict'}; 'known' when this very job id was
-- accepted before (the answer to an earlier try was lost), 'conflict' when the idempotency key came with something else.
local id, tenant, kind, prio, mode = ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[6]
local key, call, request, run, plan, max, keep_s = ARGV[7], ARGV[8], ARGV[9], ARGV[10], ARGV[11], ARGV[12], ARGV[13]
local idempotency, fingerprint = ARGV[14], ARGV[15]
if redis.call('EXISTS', job_key(id)) == 1 then return { id, 'known' } end

if idempotency ~= '' then
  local earlier = redis.call('HMGET', idempotency_key(tenant, idempotency), 'job', 'of')
  if earlier[1] then
    if earlier[2] ~= fingerprint then return { earlier[1], 'conflict' } end
    count('repeated')
    return { earlier[1], 'repeated' }
  end
end
local function answer(job, how)
  if idempotency ~= '' then
    redis.call('HSET', idempotency_key(tenant, idempotency), 'job', job, 'of', fingerprint)
    redis.call('EXPIRE', idempotency_key(tenant, idempotency), IDEMPOTENCY_KEPT_S)
  end
  return { job, how }
end

local live = redis.call('GET', call_key(tenant, call))
if live and redis.call('HGET', job_key(live), 'state') == 'queued' then
  count('repeated')
  return answer(live, 'repeated')
end

local function record(...)
  redis.call('HSET', job_key(id), 'v', RECORD_VERSION, 'state', 'queued', 'tenant', tenant, 'kind', kind, 'prio', prio,
    'created', now, 'req', request, ...)
  count('submitted')
end

if mode == 'use' then
  local cached = redis.call('HMGET', result_key(key), 'summary')
  if cached[1] then
    record('cached', 1, 'call', call)
    transition(id, 'succeeded', keep_s, 'result', key, 'summary', cached[1])
    redis.call('HSET', result_key(key), 'used', now)
    count('cache_hits')
    return answer(id, 'cached')
  end
end
count(mode == 'off' and 'cache_bypassed' or 'cache_misses')
redis.call('SET', call_key(tenant, call), id)

if mode ~= 'off' then
  local flight = redis.call('GET', flight_key(key))
  if flight then
    record('run', flight, 'call', call)
    redis.call('SADD', waiters_key(flight), id)
    local waiting = redis.call('HMGET', run_key(flight), 'prio', 'seq', 'state')
    if tonumber(prio) < tonumber(waiting[1]) then -- the most urgent of those that wait decides
      redis.call('HSET', run_key(flight), 'prio', prio)
      if waiting[3] == 'queued' then redis.call('ZADD', READY, tonumber(prio) * BAND + tonumber(waiting[2]), flight) end
    end
    count('coalesced')
    return answer(id, 'joined')
  end
  redis.call('SET', flight_key(key), run)
end

record('run', run, 'call', call)
redis.call('HSET', run_key(run), 'v', RECORD_VERSION, 'kind', kind, 'prio', prio, 'plan', plan, 'max', max,
  'attempt', 0, 'stalls', 0, 'interruptions', 0, 'created', now, 'keep', keep_s)
if mode ~= 'off' then redis.call('HSET', run_key(run), 'key', key) end
redis.call('SADD', waiters_key(run), id)
enqueue(run)
return answer(id, 'queued')
