-- Accepts one job: attaches it to a live identical call, to a cached result, to a run in flight, or queues a new run.
-- ARGV: prefix, keep, job, run, tenant, kind, priority, mode (use|refresh|off), cache key, call hash, request (JSON),
--       plan (JSON), max attempts, time-out in s, slots, memory in MB, start at (ms, 0 for now), deadline (ms, 0 for
--       none), details (JSON), tags, webhook ('' for none), idempotency key ('' for none), fingerprint of what the client
--       sent, most open jobs of a tenant, ended job that this one runs once more ('' for none)
-- Returns {job id, 'known' | 'repeated' | 'cached' | 'joined' | 'queued' | 'conflict' | 'full'}; 'known' when this very
-- job id was accepted before (the answer to an earlier try was lost), 'conflict' when the idempotency key came with
-- something else, 'full' when the tenant has too many jobs open.
local id, run, tenant, kind, prio, mode, cache_key, hash = unpack(ARGV, 3, 10)
local starts, deadline, tags, hook, idempotency = tonumber(ARGV[17]), tonumber(ARGV[18]), ARGV[20], ARGV[21], ARGV[22]
if call('EXISTS', key('job', id)) == 1 then return { id, 'known' } end

local idempotent = key('idem', tenant .. ':' .. idempotency)
if idempotency ~= '' then
  local earlier = call('HMGET', idempotent, 'job', 'of')
  if earlier[1] then
    if earlier[2] ~= ARGV[23] then return { earlier[1], 'conflict' } end
    count('repeated')
    return { earlier[1], 'repeated' }
  end
end
local function answer(job, how)
  if idempotency ~= '' then
    call('HSET', idempotent, 'job', job, 'of', ARGV[23])
    call('EXPIRE', idempotent, IDEMPOTENCY_KEPT_S)
  end
  return { job, how }
end

-- With the cache off a flight is the call's own: only its repeat by the same tenant finds it.
local flight = mode == 'off' and tenant .. '/' .. hash or cache_key
local flying, same = call('GET', key('flight', flight)), tenant .. '/' .. hash
if flying then
  local live = call('HGET', key('run', flying), 'c:' .. same)
  if live and call('HGET', key('job', live), 'state') == 'queued' then
    count('repeated')
    return answer(live, 'repeated')
  end
end

local found = mode == 'use' and cached(cache_key)
if not found then
  local open = call('HMGET', key('tenant', tenant), 'open', 'max_queued')
  if tonumber(open[1] or 0) >= tonumber(open[2] or ARGV[24]) then
    count('refused_full')
    return { '', 'full' }
  end
end
create(id, 'queued', tenant .. ':' .. kind, ARGV[19], ARGV[11], tags, 'run', (found or flying) and '' or run)
if hook ~= '' then call('HSET', key('job', id), 'hook', hook) end
if ARGV[25] ~= '' and call('EXISTS', key('job', ARGV[25])) == 1 then call('HSET', key('job', ARGV[25]), 'again', id) end
opened(tenant, 1)
count('submitted')
if found then
  answer_from_cache(id, cache_key, found)
  return answer(id, 'cached')
end

if deadline > 0 then
  call('HSET', key('job', id), 'due', deadline)
  call('ZADD', P .. ':deadlines', deadline, id)
end
local place, later = prio .. ':' .. tenant, starts > now
if flying then
  join(flying, id, {
    place = place, call = same, max = ARGV[13], wall = ARGV[14], starts = later, plan = function() return ARGV[12] end,
  })
  return answer(id, 'joined')
end
local seq = next_seq()
call('HSET', key('run', run), 'v', VERSION, 'kind', kind, 'places', place, 'plan', ARGV[12], 'req', ARGV[11], 'max', ARGV[13],
  'wall', ARGV[14], 'need', ARGV[15], 'mem', ARGV[16], 'flight', flight, 'jobs', 1, 'job', id, 'c:' .. same, id,
  'seq', seq, 'state', later and 'scheduled' or 'queued')
call('SET', key('flight', flight), run)
if later then
  call('HSET', key('run', run), 'starts', starts)
  call('ZADD', P .. ':delayed', starts, run)
else
  place_entry(place, 'r' .. run, seq)
  call('HINCRBY', P .. ':sched', 'ready', 1)
  wake()
end
return answer(id, 'queued')
