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
    index = tenant .. ':' .. kind, list = key('list', tenant .. ':' .. kind .. ':queued'), about = VERSION .. ' ' .. kind .. ' ' .. size .. '\n',
    wants = '\n' .. limits .. '\n' .. prio .. ':' .. tenant, tail = now_text .. ' ' .. tenant .. ':' .. kind,
  }
end
local number = (#ARGV - first + 1) / 4
local seq = call('INCRBY', P .. ':seq', number) - number

-- What is there for all of them is read at once; `flights` also has those that this call begins.
local heads, flights, results, new_flights = {}, {}, {}, {}
do
  local keys, sub = {}, string.sub
  for at = first, #ARGV, 4 do
    local head = ARGV[at] -- cut at known places, which is much faster than a pattern
    local id, run, hash, again, cache_key = sub(head, 1, 36), sub(head, 37, 72), sub(head, 73, 104), sub(head, 105, 105), sub(head, 109)
    local profile = profiles[tonumber(sub(head, 106, 108))]
    -- With the cache off a flight is the call's own: only its repeat by the same tenant finds it.
    local flight = profile.mode == 'off' and profile.tenant .. '/' .. hash or cache_key
    local flight_key = P .. ':flight:' .. flight
    heads[at] = { id, again, run, profile, hash, cache_key, flight, flight_key }
    keys[#keys + 1] = flight_key
    keys[#keys + 1] = P .. ':result:' .. (profile.mode == 'use' and cache_key or '')
  end
  local there, i = call('MGET', unpack(keys)), 1
  for at = first, #ARGV, 4 do
    flights[heads[at][7]], results[at], i = there[i], there[i + 1], i + 2
  end
end

local function submit(at)
  local id, again, run, profile, hash, cache_key, flight, flight_key = unpack(heads[at])
  local data, plan, rare = ARGV[at + 1], ARGV[at + 2], ARGV[at + 3]
  local tenant = profile.tenant
  seq = seq + 1
  local arrival = text(seq)
  rare = rare == '' and nothing or cjson.decode(rare)
  if again == '1' and call('EXISTS', key('job', id)) == 1 then return 'known' end

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
    return job == id and how or { job, how }
  end

  local flying, found = flights[flight], results[at] and use(cache_key, results[at])
  if flying then
    -- The first call is in the run's record, others that joined by another tenant or with other options in fields.
    local live = call('HMGET', key('run', flying), 'c:' .. tenant .. '/' .. hash, 'terms', 'state', 'claim')
    if profile.mode ~= 'off' and is_outdated(flying, live[3], live[4]) then flying = nil end
    local _, call_and_flight = split3(live[2], '\n')
    local first, index = string.match(live[3], '^%S+ %S+ (%S+) %S+ %S+ (.*)$')
    local same = flying and (live[1] or (index == profile.index and string.sub(call_and_flight, 1, 32) == hash and first))
    if same and is_live(same) then
      count('repeated')
      return answer(same, 'repeated')
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
  local flags = rare == nothing and '-' or (rare.webhook and 'h' or '') .. (rare.deadline and 'd' or '')
  if flags == '' then flags = '-' end
  local tail = flags .. ' ' .. profile.tail
  create(id, 'queued', profile.list, data, arrival, (found or flying) and '-' or run, tail)
  if rare.tags then tag(id, profile.index, rare.tags, arrival) end
  if rare.webhook then call('HSET', key('job', id), 'hook', rare.webhook) end
  if rare.instead_of and call('EXISTS', key('job', rare.instead_of)) == 1 then
    call('HSET', key('job', rare.instead_of), 'again', id)
  end
  if t.open == 0 then opened(tenant, 0, 0) end
  t.new = t.new + 1
  if profile.campaign ~= '' then try(tenant, profile.campaign, cache_key) end
  if rare.looks then look(tenant, id, rare.looks) end
  if found then
    answer_from_cache(id, cache_key, found)
    if profile.campaign ~= '' then call('EXPIRE', key('trial', cache_key), kept_trials) end
    return answer(id, 'cached')
  end

  t.open = t.open + 1
  if rare.deadline then
    call('HSET', key('job', id), 'due', rare.deadline)
    call('ZADD', P .. ':deadlines', rare.deadline, id)
  end
  local place, later = profile.place, rare.start_at and rare.start_at > now
  if flying then
    joining()(flying, id, {
      seq = arrival, tail = tail, place = place, call = tenant .. '/' .. hash, limits = profile.limits, starts = later,
      plan = function() return plan end,
    })
    return answer(id, 'joined')
  end
  call('HSET', key('run', run), 'state', (later and 'scheduled ' or 'queued ') .. arrival .. ' ' .. id .. ' ' .. tail,
    'terms', profile.about .. hash .. flight .. profile.wants, 'plan', plan)
  flights[flight] = run
  if profile.mode == 'use' then misses = misses + 1 end
  new_flights[#new_flights + 1] = flight_key
  new_flights[#new_flights + 1] = run
  if later then
    call('HSET', key('run', run), 'starts', rare.start_at)
    call('ZADD', P .. ':delayed', rare.start_at, run)
  else
    local entries = queued[place] or {}
    queued[place] = entries
    entries[#entries + 1] = arrival
    entries[#entries + 1] = 'r' .. run
  end
  return answer(id, 'queued')
end

local answers = {}
for at = first, #ARGV, 4 do answers[#answers + 1] = isolated(submit, at) end
if #new_flights > 0 then call('MSET', unpack(new_flights)) end
for tenant, t in pairs(tenants) do
  add(key('tenant', tenant), 'open', t.new)
  count('submitted', t.new)
end
count('cache_misses', misses)
flush_trials()
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
