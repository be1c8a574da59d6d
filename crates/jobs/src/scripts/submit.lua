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
local profiles, misses = {}, 0
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
local flights, flight_of_job, result_of_job, profile_of_job, new = {}, {}, {}, {}, {}
local function write_new()
  in_parts('MSET', nil, new)
  new = {}
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

-- seldom
parts = { accepted = accepted }
-- often

-- Most jobs are new, with nothing there that could answer them and nothing rare about them: they need little. The others
-- are `accepted`, with all the parts that this takes.
local function submit(at)
  local head, data, plan, rare, flight = ARGV[at], ARGV[at + 1], ARGV[at + 2], ARGV[at + 3], flight_of_job[at]
  local id, run, hash, profile = sub(head, 1, 36), sub(head, 37, 72), sub(head, 73, 104), profile_of_job[at]
  local tenant = profile.tenant
  seq = seq + 1
  local arrival, t = text(seq), tenants[tenant]
  if not t then
    local known = call('HMGET', key('tenant', tenant), 'open', 'max_queued', 'running', 'max_running', 'vt0', 'vt1', 'vt2')
    t = { new = 0, open = tonumber(known[1] or 0), most = tonumber(known[2] or profile.most), known = known }
    tenants[tenant] = t
    list_tenant(tenant, t.open)
  end
  local tail, more, starts = '- ' .. profile.tail, '', nil
  if flights[flight] or result_of_job[at] or rare ~= '' or #data > LONG or #plan > LONG or profile.campaign ~= ''
    or sub(head, 105, 105) == '1' then
    local answer
    answer, tail, more, starts, data, plan = seldom().accepted(at, arrival, t)
    if answer then return answer end
  elseif t.open >= t.most then
    count('refused_full')
    return { '', 'full' }
  end
  t.new, t.open = t.new + 1, t.open + 1
  join_set(profile.list, arrival, id)
  flights[flight] = run
  if profile.mode == 'use' then misses = misses + 1 end
  local n = #new
  new[n + 1], new[n + 2] = JOB .. id, 'queued ' .. arrival .. ' ' .. run .. ' ' .. tail .. '\n\n\n\n' .. more .. '\n' .. data
  new[n + 3], new[n + 4], new[n + 5] = FLIGHT .. flight, run, RUN .. run
  if starts then
    new[n + 6] = 'scheduled ' .. arrival .. ' ' .. id .. '\n\nstarts=' .. starts .. sub(profile.about, 3) .. hash .. flight .. profile.wants .. plan
    return 'queued'
  end
  new[n + 6] = 'queued ' .. arrival .. ' ' .. id .. profile.about .. hash .. flight .. profile.wants .. plan
  local entries = queued[profile.place]
  if not entries then
    entries = {}
    queued[profile.place] = entries
  end
  n = #entries
  entries[n + 1], entries[n + 2] = arrival, 'r' .. run
  return 'queued'
end

local answers = {}
for at = first, #ARGV, 4 do answers[(at - first) / 4 + 1] = isolated(submit, at) end
write_new()
for tenant, t in pairs(tenants) do
  add(key('tenant', tenant), 'open', t.new)
  count('submitted', t.new)
end
count('cache_misses', misses)
flush()
for place, entries in pairs(queued) do
  in_parts('ZADD', key('q', place), entries)
  call('HINCRBY', P .. ':sched', 'ready', text(#entries / 2))
  local p, tenant = split_place(place)
  local known = tenants[tenant].known
  link(p, tenant, { known[3], known[4], known[5 + p] })
  for _ = 1, #entries, 2 do
    if not wake() then break end
  end
end
return answers
