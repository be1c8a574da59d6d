-- Prepended to every script, after `local ALLOWED` (generated from the Rust state machine).
-- KEYS[1] is the ready queue. All other keys are derived from the prefix in ARGV[1], whose hash tag KEYS[1] shares,
-- so that every script stays on one node of a Redis Cluster. Times are Redis's own clock, in milliseconds.
local P = ARGV[1]
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local READY, LEASES, DELAYED, SETTLING = KEYS[1], P .. ':leases', P .. ':delayed', P .. ':settling'
local EVENTS, STATS, WAKE = P .. ':events', P .. ':stats', P .. ':wake'
local EVENTS_KEPT, RUN_KEPT_S, IDEMPOTENCY_KEPT_S, RECORD_VERSION = 20000, 3600, 86400, 1
local BAND = 1099511627776 -- 2^40 sequence numbers for each priority

local function job_key(id) return P .. ':job:' .. id end
local function run_key(id) return P .. ':run:' .. id end
local function waiters_key(run) return P .. ':waiters:' .. run end
local function stops_key(worker) return P .. ':stops:' .. worker end
local function flight_key(cache_key) return P .. ':flight:' .. cache_key end
local function result_key(id) return P .. ':result:' .. id end
local function idempotency_key(tenant, key) return P .. ':idem:' .. tenant .. ':' .. key end
local function call_key(tenant, hash) return P .. ':call:' .. tenant .. ':' .. hash end

local function count(name, by) redis.call('HINCRBY', STATS, name, by or 1) end
local function emit(...) redis.call('XADD', EVENTS, 'MAXLEN', '~', EVENTS_KEPT, '*', ...) end

-- The only place where the stored state of a job changes. Sets the fields given as name, value, ...; appends one
-- event; frees the call for a repeat; bounds the record's life. Returns false where the change is not allowed.
local function transition(id, to, keep_s, ...)
  local job = redis.call('HMGET', job_key(id), 'state', 'tenant', 'call', 'run')
  if not job[1] or not ALLOWED[job[1]] or not ALLOWED[job[1]][to] then return false end
  redis.call('HSET', job_key(id), 'state', to, 'finished', now, ...)
  if job[3] and redis.call('GET', call_key(job[2], job[3])) == id then redis.call('DEL', call_key(job[2], job[3])) end
  redis.call('EXPIRE', job_key(id), keep_s)
  emit('job', id, 'state', to)
  count('jobs_' .. to)
  return true
end

-- Puts a run into the queue; `again` keeps its old place, so that what was interrupted is next.
local function enqueue(run, again)
  local record = redis.call('HMGET', run_key(run), 'prio', 'seq')
  local seq = again and record[2] or redis.call('INCR', P .. ':seq')
  redis.call('HSET', run_key(run), 'state', 'queued', 'seq', seq)
  redis.call('ZADD', READY, tonumber(record[1]) * BAND + tonumber(seq), run)
  redis.call('LPUSH', WAKE, 1)
  redis.call('LTRIM', WAKE, 0, 63)
end

-- Nobody can join the run any more.
local function close_flight(run, cache_key)
  if cache_key and redis.call('GET', flight_key(cache_key)) == run then redis.call('DEL', flight_key(cache_key)) end
end

-- Fixes the outcome of a run and hands its jobs over to `settle`. Fields are what the jobs will get.
local function conclude(run, job_state, ...)
  close_flight(run, redis.call('HGET', run_key(run), 'key'))
  redis.call('ZREM', LEASES, run)
  redis.call('ZREM', READY, run)
  redis.call('ZREM', DELAYED, run)
  redis.call('HSET', run_key(run), 'state', 'finished', 'outcome', job_state, 'finished', now, ...)
  redis.call('HDEL', run_key(run), 'plan', 'fence', 'cancel')
  if redis.call('SCARD', waiters_key(run)) > 0 then
    redis.call('ZADD', SETTLING, now, run)
  else
    redis.call('EXPIRE', run_key(run), RUN_KEPT_S)
  end
end

-- True while the caller is the one that holds the run.
local function holds(run, fence)
  local record = redis.call('HMGET', run_key(run), 'state', 'fence')
  return record[1] == 'running' and record[2] == fence
end
