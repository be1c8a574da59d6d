-- Accepts jobs: attaches each to a live identical call, to a cached result, to a run in flight, or queues a new run.
-- ARGV: prefix, keep, number of profiles, profiles, and for each job 4 of: job (36 bytes), run (36), call hash (32), 1 if it
--       may have been accepted before, else 0 (1), number of its profile (3) and cache key, without anything between them;
--       record; plan; and what is rare, as JSON or '': start_at and deadline (ms), tags, webhook, idempotency key (once) and
--       fingerprint of what the client sent (of), ended job that this one runs once more (instead_of), the held-out series that it
--       looks at (looks: {series, about}). The record is
--       '<version> <details>\n<request>', the plan '<plan>\n<request>', where details, request and plan are JSON.
-- A profile is what many jobs have in common, separated by the byte 31: tenant, kind, priority, mode (use|refresh|off),
--       '<slots> <memory in MB>', '<max attempts> <time-out in s>', most open jobs of a tenant, campaigns whose
--       trial it is, with the byte 30 between them
-- Returns {job id, what} for each, and for a job of its own id `what` alone: 'known' | 'repeated' | 'cached' | 'joined' |
-- 'queued' | 'conflict' | 'full'; 'known' when this very job id was accepted before (the answer to an earlier try was lost),
-- 'conflict' when the idempotency key came with something else, 'full' when the tenant has too many jobs open.
local tenants = {} -- open jobs and cap of each
local queued = {} -- new entries of each place
local nothing, profiles, misses = {}, {}, 0
local first = 4 + ARGV[3]
for i = 4, first - 1 do
  local tenant, kind, prio, mode, size, limits, most, campaign =
    string.match(ARGV[i], '^(.-)\31(.-)\31(.-)\31(.-)\31(.-)\31(.-)\31(.-)\31(.*)$')
  profiles[i - 3] = {
    tenant = tenant, kind = kind, mode = mode, limits = limits, most = most, campaign = campaign, place = prio .. ':' .. tenant,
    list = key('list', tenant .. ':' .. kind .. ':queued'), about = '\n\n\n' .. VERSION .. ' ' .. kind .. ' ' .. size .. '\n',
    wants = '\n' .. limits .. ' ' .. prio .. ':' .. tenant .. '\n', tail = now_text .. ' ' .. tenant .. ':' .. kind,
  }
end
local number = (#ARGV - first + 1) / 4
local seq = call('INCRBY', P .. ':seq', number) - number

-- What is there for all of them is read at once; `flights` also has those that this call begins. What it makes is written at
-- its end, or before somebody joins it.
local FLIGHT, RESULT = P .. ':flight:', P .. ':result:'
local flights, flight_of_job, result_of_job, profile_of_job, made = {}, {}, {}, {}, {}
local function write_made()
  in_parts('MSET', nil, made)
  made = {}
end
do
  local keys, n = {}, 0
  for at = first, #ARGV, 4 do
    local head = ARGV[at] -- cut at known places, which is much faster than a pattern
    local cache_key, profile = sub(head, 109), profiles[tonumber(sub(head, 106, 108))]
    -- With the cache off a flight is the call's own: only its repeat by the same tenant finds it.
    local flight = profile.mode == 'off' and profile.tenant .. '/' .. sub(head, 73, 104) or cache_key
    flight_of_job[at], profile_of_job[at] = flight, profile
    keys[n + 1], keys[n + 2], n = FLIGHT .. flight, RESULT .. (profile.mode == 'use' and cache_key or ''), n + 2
  end
  local there, i = call('MGET', unpack(keys)), 1
  for at = first, #ARGV, 4 do
    flights[flight_of_job[at]], result_of_job[at], i = there[i], there[i + 1], i + 2
  end
end

-- The job that made the same call, if it has not ended: the first call is in the run's record, others that joined by another
-- tenant or with other options beside it.
local function same_call(run, record, profile, hash)
  local _, call_and_flight = terms_of(record)
  if sub(call_and_flight, 1, 32) == hash and record.waiter ~= '-' then
    local _, _, _, tail = parse_state(job_of(record.waiter))
    if tail and index_of(tail) == profile.tenant .. ':' .. profile.kind and is_live(record.waiter) then return record.waiter end
  end
  local other = record.waiter == '-' and call('HGET', key('calls', run), profile.tenant .. '/' .. hash)
  return other and is_live(other) and other
end

local function submit(at)
  local head, data, plan, rare, flight = ARGV[at], ARGV[at + 1], ARGV[at + 2], ARGV[at + 3], flight_of_job[at]
  local id, run, hash, profile = sub(head, 1, 36), sub(head, 37, 72), sub(head, 73, 104), profile_of_job[at]
  local tenant = profile.tenant
  seq = seq + 1
  local arrival = text(seq)
  rare = rare == '' and nothing or cjson.decode(rare)
  if sub(head, 105, 105) == '1' and job_of(id) then return 'known' end

  local idempotent = rare.once and key('idem', tenant .. ':' .. rare.once)
  if idempotent then
    local earlier = call('HMGET', idempotent, 'job', 'of')
    if earlier[1] then
      if earlier[2] ~= rare.of then return { earlier[1], 'conflict' } end
      count('repeated')
      return { earlier[1], 'repeated' }
    end
  end
  local function remember(job)
    if idempotent then
      call('HSET', idempotent, 'job', job, 'of', rare.of)
      call('EXPIRE', idempotent, IDEMPOTENCY_KEPT_S)
    end
  end

  local flying, found = flights[flight], result_of_job[at] and use(sub(head, 109), result_of_job[at])
  if flying then
    write_made()
    local record = run_of(flying)
    if not record or (profile.mode ~= 'off' and is_outdated(record)) then flying = nil end
    local same = flying and same_call(flying, record, profile, hash)
    if same then
      count('repeated')
      remember(same)
      return same == id and 'repeated' or { same, 'repeated' }
    end
  end

  local t = tenants[tenant]
  if not t then
    local known = call('HMGET', key('tenant', tenant), 'open', 'max_queued')
    t = { new = 0, open = tonumber(known[1] or 0), most = tonumber(known[2] or profile.most) }
    tenants[tenant] = t
  end
  if not found and t.open >= t.most then
    count('refused_full')
    return { '', 'full' }
  end
  local tail, more = '- ' .. profile.tail, ''
  if rare ~= nothing then
    local flags = (rare.webhook and 'h' or '') .. (rare.deadline and 'd' or '')
    local due = rare.deadline and text(rare.deadline)
    tail = (flags == '' and '-' or flags) .. ' ' .. profile.tail
    more = line_of({ tags = rare.tags and tag(id, tenant, rare.tags, arrival), hook = rare.webhook, due = due })
    if rare.instead_of then note_again(rare.instead_of, id) end
    if rare.looks then look(tenant, id, rare.looks) end
    if due and not found then call('ZADD', P .. ':deadlines', due, id) end
    remember(id)
  end
  local record = 'queued ' .. arrival .. ' ' .. (found and '-' or flying or run) .. ' ' .. tail .. '\n\n\n\n' .. more .. '\n' .. data
  join_set(profile.list, arrival, id)
  if t.open == 0 then opened(tenant, 0, 0) end
  t.new = t.new + 1
  if profile.campaign ~= '' then try(tenant, profile.campaign, sub(head, 109)) end
  if found then
    put_job(id, record, 'open')
    answer_from_cache(id, sub(head, 109), found)
    if profile.campaign ~= '' then call('EXPIRE', key('trial', sub(head, 109)), kept_trials) end
    return 'cached'
  end

  t.open = t.open + 1
  local place, later = profile.place, rare.start_at and rare.start_at > now
  if flying then
    put_job(id, record, 'open')
    joining()(flying, id, {
      place = place, call = tenant .. '/' .. hash, limits = profile.limits, starts = later, plan = function() return plan end,
    })
    return 'joined'
  end
  flights[flight] = run
  if profile.mode == 'use' then misses = misses + 1 end
  local run_record
  if later then
    local starts = text(rare.start_at)
    run_record = 'scheduled ' .. arrival .. ' ' .. id .. '\n\nstarts=' .. starts .. sub(profile.about, 3) .. hash .. flight .. profile.wants .. plan
    call('ZADD', P .. ':delayed', starts, run)
  else
    run_record = 'queued ' .. arrival .. ' ' .. id .. profile.about .. hash .. flight .. profile.wants .. plan
    local entries = queued[place]
    if not entries then
      entries = {}
      queued[place] = entries
    end
    local n = #entries
    entries[n + 1], entries[n + 2] = arrival, 'r' .. run
  end
  local n = #made
  made[n + 1], made[n + 2], made[n + 3], made[n + 4], made[n + 5], made[n + 6] = JOB .. id, record, RUN .. run, run_record, FLIGHT .. flight, run
  return 'queued'
end

local answers = {}
for at = first, #ARGV, 4 do answers[(at - first) / 4 + 1] = isolated(submit, at) end
write_made()
for tenant, t in pairs(tenants) do
  add(key('tenant', tenant), 'open', t.new)
  count('submitted', t.new)
end
count('cache_misses', misses)
flush_trials()
flush()
for place, entries in pairs(queued) do
  in_parts('ZADD', key('q', place), entries)
  call('HINCRBY', P .. ':sched', 'ready', text(#entries / 2))
  link(split_place(place))
  for _ = 1, #entries, 2 do
    if not wake() then break end
  end
end
return answers
