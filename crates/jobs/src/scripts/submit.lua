-- Accepts jobs: attaches each to a live identical call, to a cached result, to a run in flight, or queues a new run.
-- ARGV: prefix, keep, and for each job 23 of: job, run, tenant, kind, priority, mode
--       (use|refresh|off), cache key, call hash, request (JSON), plan (JSON), max attempts, time-out in s, slots, memory
--       in MB, start at (ms, 0 for now), deadline (ms, 0 for none), details (JSON), tags, webhook ('' for none),
--       idempotency key ('' for none), fingerprint of what the client sent, ended job that this one runs once more
--       ('' for none), most open jobs of a tenant
-- Returns {job id, 'known' | 'repeated' | 'cached' | 'joined' | 'queued' | 'conflict' | 'full'} for each; 'known' when
-- this very job id was accepted before (the answer to an earlier try was lost), 'conflict' when the idempotency key came
-- with something else, 'full' when the tenant has too many jobs open.
local tenants, linked, woken = {}, {}, true -- open jobs and cap of each; whether there may be an idle worker

local function submit(at)
  local id, run, tenant, kind, prio, mode, cache_key, hash, request, plan, max, wall, need, mem = unpack(ARGV, at, at + 13)
  local starts, deadline, details, tags, hook, idempotency, of, origin, most = unpack(ARGV, at + 14, at + 22)
  if call('EXISTS', key('job', id)) == 1 then return { id, 'known' } end

  local idempotent = key('idem', tenant .. ':' .. idempotency)
  if idempotency ~= '' then
    local earlier = call('HMGET', idempotent, 'job', 'of')
    if earlier[1] then
      if earlier[2] ~= of then return { earlier[1], 'conflict' } end
      count('repeated')
      return { earlier[1], 'repeated' }
    end
  end
  local function answer(job, how)
    if idempotency ~= '' then
      call('HSET', idempotent, 'job', job, 'of', of)
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

  local t = tenants[tenant]
  if not t then
    local known = call('HMGET', key('tenant', tenant), 'open', 'max_queued')
    t = { open = tonumber(known[1] or 0), most = tonumber(known[2] or most) }
    tenants[tenant] = t
  end
  local found = mode == 'use' and cached(cache_key)
  if not found and t.open >= t.most then
    count('refused_full')
    return { '', 'full' }
  end
  create(id, 'queued', tenant .. ':' .. kind, details, request, tags, 'run', (found or flying) and '' or run)
  if hook ~= '' then call('HSET', key('job', id), 'hook', hook) end
  if origin ~= '' and call('EXISTS', key('job', origin)) == 1 then call('HSET', key('job', origin), 'again', id) end
  opened(tenant, 1, t.open)
  count('submitted')
  if found then
    answer_from_cache(id, cache_key, found)
    return answer(id, 'cached')
  end

  t.open = t.open + 1
  if deadline ~= '0' then
    call('HSET', key('job', id), 'due', deadline)
    call('ZADD', P .. ':deadlines', deadline, id)
  end
  local place, later = prio .. ':' .. tenant, tonumber(starts) > now
  if flying then
    join(flying, id, { place = place, call = same, max = max, wall = wall, starts = later, plan = function() return plan end })
    return answer(id, 'joined')
  end
  local seq = next_seq()
  call('HSET', key('run', run), 'v', VERSION, 'kind', kind, 'places', place, 'plan', plan, 'req', request, 'max', max,
    'wall', wall, 'need', need, 'mem', mem, 'flight', flight, 'jobs', 1, 'job', id, 'c:' .. same, id, 'seq', seq,
    'state', later and 'scheduled' or 'queued')
  call('SET', key('flight', flight), run)
  if later then
    call('HSET', key('run', run), 'starts', starts)
    call('ZADD', P .. ':delayed', starts, run)
  else
    call('ZADD', key('q', place), seq, 'r' .. run)
    if not linked[place] then
      link(prio, tenant)
      linked[place] = true
    end
    add(P .. ':sched', 'ready', 1)
    woken = woken and wake()
  end
  return answer(id, 'queued')
end

local answers = {}
for at = 3, #ARGV, 23 do answers[#answers + 1] = isolated(submit, at) end
flush_all()
return answers
