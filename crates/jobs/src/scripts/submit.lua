-- Accepts jobs: attaches each to a live identical call, to a cached result, to a run in flight, or queues a new run.
-- ARGV: prefix, keep, and for each job 16 of: job, '1' if it may have been accepted before, run, tenant, kind, priority,
--       mode (use|refresh|off), cache key, call hash, request (JSON), plan (JSON), '<slots> <memory in MB>',
--       '<max attempts> <time-out in s>', details (JSON), most open jobs of a tenant, and what is rare, as JSON or '':
--       start_at and deadline (ms), tags, webhook, idempotency key (once) and fingerprint of what the client sent (of),
--       ended job that this one runs once more (instead_of)
-- Returns {job id, 'known' | 'repeated' | 'cached' | 'joined' | 'queued' | 'conflict' | 'full'} for each; 'known' when
-- this very job id was accepted before (the answer to an earlier try was lost), 'conflict' when the idempotency key came
-- with something else, 'full' when the tenant has too many jobs open.
local tenants = {} -- open jobs and cap of each
local queued = {} -- new entries of each place
local nothing = {}
local seq

local function submit(at)
  local id, again, run, tenant, kind, prio, mode, cache_key, hash, request, plan, size, limits, details, most, rare =
    unpack(ARGV, at, at + 15)
  rare = rare == '' and nothing or cjson.decode(rare)
  if again == '1' and call('EXISTS', key('job', id)) == 1 then return { id, 'known' } end

  local idempotent = rare.once and key('idem', tenant .. ':' .. rare.once)
  if idempotent then
    local earlier = call('HMGET', idempotent, 'job', 'of')
    if earlier[1] then
      if earlier[2] ~= rare.of then return { earlier[1], 'conflict' } end
      count('repeated')
      return { earlier[1], 'repeated' }
    end
  end
  local function answer(job, how)
    if idempotent then
      call('HSET', idempotent, 'job', job, 'of', rare.of)
      call('EXPIRE', idempotent, IDEMPOTENCY_KEPT_S)
    end
    return { job, how }
  end

  -- With the cache off a flight is the call's own: only its repeat by the same tenant finds it.
  local same = tenant .. '/' .. hash
  local flight = mode == 'off' and same or cache_key
  local here = call('MGET', key('flight', flight), key('result', mode == 'use' and cache_key or ''))
  local flying, found = here[1], here[2] and summary_of(here[2])
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
  if not found and t.open >= t.most then
    count('refused_full')
    return { '', 'full' }
  end
  create(id, 'queued', tenant .. ':' .. kind, details, request, rare.tags, (found or flying) and '' or run)
  if rare.webhook then call('HSET', key('job', id), 'hook', rare.webhook) end
  if rare.instead_of and call('EXISTS', key('job', rare.instead_of)) == 1 then
    call('HSET', key('job', rare.instead_of), 'again', id)
  end
  opened(tenant, 1, t.open)
  count('submitted')
  if found then
    answer_from_cache(id, cache_key, found)
    return answer(id, 'cached')
  end

  t.open = t.open + 1
  if rare.deadline then
    call('HSET', key('job', id), 'due', rare.deadline)
    call('ZADD', P .. ':deadlines', rare.deadline, id)
  end
  local place, later = prio .. ':' .. tenant, rare.start_at and rare.start_at > now
  if flying then
    joining()(flying, id, {
      place = place, call = same, limits = limits, starts = later, plan = function() return plan end,
    })
    return answer(id, 'joined')
  end
  seq = (seq or call('INCRBY', P .. ':seq', (#ARGV - 2) / 16) - (#ARGV - 2) / 16) + 1
  call('HSET', key('run', run), 'state', later and 'scheduled' or 'queued', 'fixed', VERSION .. ' ' .. kind .. ' ' .. size .. ' ' .. flight,
    'limits', limits, 'places', place, 'seq', seq, 'plan', plan, 'job', id, 'c:' .. same, id)
  call('SET', key('flight', flight), run)
  if later then
    call('HSET', key('run', run), 'starts', rare.start_at)
    call('ZADD', P .. ':delayed', rare.start_at, run)
  else
    local entries = queued[place] or {}
    queued[place] = entries
    entries[#entries + 1] = seq
    entries[#entries + 1] = 'r' .. run
  end
  return answer(id, 'queued')
end

local answers = {}
for at = 3, #ARGV, 16 do answers[#answers + 1] = isolated(submit, at) end
flush()
for place, entries in pairs(queued) do
  in_parts('ZADD', key('q', place), entries)
  call('HINCRBY', P .. ':sched', 'ready', #entries / 2)
  link(split_place(place))
  for _ = 1, #entries, 2 do
    if not wake() then break end
  end
end
return answers
