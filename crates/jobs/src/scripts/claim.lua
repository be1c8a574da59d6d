-- Claims runs for a worker, each under a lease, at most as many as fences are given (one for each free slot).
-- ARGV: prefix, keep, worker, the record version it knows, memory in MB that it has free, 1 when it holds nothing,
--       fence, fence, ...
-- Returns {claims, more}: {run, fence, kind, plan, request, attempt, 1 if it must run alone, slots, memory, time-out in s}
-- for each claim, and 1 when the budget of this call was used up before the slots were.
local worker, known, memory, nothing_held = ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5]), ARGV[6] == '1'
local slots, taken, claims = #ARGV - 6, 0, {}

local function idle() call('ZADD', IDLE, now, worker) end
if call('EXISTS', PAUSED) == 1 then
  idle()
  return { claims, 0 }
end

local sched = call('HMGET', SCHED, 'band0', 'band1', 'band2', 'est0', 'est1', 'est2')
local band, estimate, reached, heads = {}, {}, {}, {}
for p = 0, 2 do
  local name = tostring(p)
  band[name], estimate[name] = tonumber(sched[p + 1] or 0), math.max(tonumber(sched[p + 4] or 0), 1)
end

-- Charges the tenant of a place for one run.
local function charge(place)
  local p, tenant = split_place(place)
  local t = call('HMGET', key('tenant', tenant), 'weight', 'max_running', 'vt' .. p)
  local running = call('HINCRBY', key('tenant', tenant), 'running', 1)
  local ring = key('ring', p)
  local own = estimate[p] / (t[1] or 1)
  if call('ZSCORE', ring, tenant) then
    call('ZINCRBY', ring, own, tenant)
    if t[2] and running >= tonumber(t[2]) then
      -- At its running cap: it stands in no ring until one of its runs has ended.
      for q = 0, 2 do
        unlink(tostring(q), tenant)
        heads[tostring(q)] = nil
      end
    end
  else
    call('HINCRBYFLOAT', key('tenant', tenant), 'vt' .. p, own)
  end
  band[p] = band[p] + estimate[p] / WEIGHTS[p]
  heads[p] = nil
end

local function start(run, place, alone)
  taken = taken + 1
  local fence, p = ARGV[6 + taken], string.sub(place, 1, 1)
  local r = call('HMGET', key('run', run), 'kind', 'plan', 'req', 'attempt', 'need', 'mem', 'wall')
  call('HSET', key('run', run), 'state', 'running', 'worker', worker, 'fence', fence, 'started', now, 'by', place,
    'estimate', estimate[p], 'given', r[7])
  call('ZADD', LEASES, now + LEASE_MS, run)
  charge(place)
  emit('run', run, 'state', 'running')
  slots, memory, nothing_held = slots - r[5], memory - r[6], false
  claims[taken] = { run, fence, r[1], r[2], r[3], (r[4] or 0) + 1, alone and 1 or 0, tonumber(r[5]), tonumber(r[6]),
    tonumber(r[7]) }
end

-- Takes a run that was set aside, from a sorted set.
local function start_aside(set, run, alone)
  call('ZREM', set, run)
  call('HINCRBY', SCHED, 'ready', -1)
  start(run, string.match(call('HGET', key('run', run), 'places'), '[^\n]+'), alone)
end

-- What killed its workers twice runs alone, so that a third loss is its own doing. One worker at a time takes no more
-- until it is idle, so that the run does not wait for ever.
local outcast = call('ZRANGE', ALONE, 0, 0)[1]
if outcast then
  if nothing_held then
    start_aside(ALONE, outcast, true)
    call('DEL', P .. ':alone:by')
    count('claims')
    call('ZREM', IDLE, worker)
    return { claims, 0 }
  end
  local by = call('GET', P .. ':alone:by')
  if not by or by == worker then
    call('SET', P .. ':alone:by', worker, 'PX', 15000)
    return { claims, 0 }
  end
end

-- Runs that an older worker left to those who know their version.
for _, run in ipairs(call('ZRANGEBYSCORE', NEWER, '-inf', known, 'LIMIT', 0, slots)) do
  if slots > 0 then start_aside(NEWER, run, false) end
end

-- The next child of a batch that has to be computed, as a run.
local function next_child(batch, place)
  local about
  for _ = 1, 50 do
    local item = call('LPOP', key('pend', batch))
    if not item then return nil end
    call('HINCRBY', SCHED, 'ready', -1)
    local id, run, cache_key, plan = string.match(item, '^(%S+) (%S+) (%S+) (%S+)')
    about = about or call('HMGET', key('batch', batch), 'mode', 'max', 'wall', 'need', 'mem', 'kind')
    local job = call('HMGET', key('job', id), 'state', 'req')
    if job[1] == 'queued' then
      local found = about[1] == 'use' and call('HGET', key('result', cache_key), 'summary')
      local flight = about[1] == 'off' and id or cache_key
      local flying = call('GET', key('flight', flight))
      local want = {
        place = place, kind = about[6], flight = flight, request = job[2], max = about[2], wall = about[3], need = about[4],
        mem = about[5], plan = function() return call('HGET', key('plans', batch), plan) end,
      }
      if found then
        answer_from_cache(id, cache_key, found)
      elseif flying then
        join(flying, id, want)
      else
        new_run(run, id, want)
        return run
      end
    end
  end
end

local budget, newer_batches = slots * 4 + 20, 0
while slots > 0 and budget > 0 do
  budget = budget - 1
  -- The priority, then the tenant, that has had the least for its weight.
  local p
  for name in pairs(WEIGHTS) do
    if heads[name] == nil then heads[name] = call('ZRANGE', key('ring', name), 0, 0, 'WITHSCORES') end
    if heads[name][1] and (not p or band[name] < band[p] or (band[name] == band[p] and name < p)) then p = name end
  end
  if not p then break end
  local tenant, vt = heads[p][1], tonumber(heads[p][2])
  local place = p .. ':' .. tenant
  local head = call('ZPOPMIN', key('q', place))
  local entry, seq = head[1], head[2]
  heads[p] = nil
  if not entry then
    unlink(p, tenant)
  elseif string.sub(entry, 1, 1) == 'b' then
    local batch = string.sub(entry, 2)
    local about = call('HMGET', key('batch', batch), 'v', 'need', 'mem')
    local fits = nothing_held or (tonumber(about[2]) <= slots and tonumber(about[3]) <= memory)
    local newer = tonumber(about[1]) > known
    local run = fits and not newer and next_child(batch, place)
    -- It goes to the end: what its tenant submitted meanwhile is not delayed by all of it.
    if call('EXISTS', key('pend', batch)) == 1 then call('ZADD', key('q', place), fits and next_seq() or seq, entry) end
    if run then
      start(run, place, false)
      reached[p], band.reached = vt, band[p]
    end
    if call('EXISTS', key('q', place)) == 0 then unlink(p, tenant) end
    newer_batches = newer_batches + (newer and 1 or 0)
    if not fits or newer_batches > 3 then break end
  else
    local run = string.sub(entry, 2)
    local r = call('HMGET', key('run', run), 'state', 'v', 'places', 'need', 'mem')
    if r[1] ~= 'queued' then
      -- Cannot happen while Redis keeps its data; if it does, it must not block the queue.
    elseif not nothing_held and (tonumber(r[4]) > slots or tonumber(r[5]) > memory) then
      -- It is next, so it is waited for: nothing that came later takes its room. With nothing held anything fits.
      call('ZADD', key('q', place), seq, entry)
      break
    else
      if r[3] ~= place then
        each_place(r[3], function(other) if other ~= place then displace_entry(other, entry) end end)
      end
      if tonumber(r[2]) > known then
        call('ZADD', NEWER, r[2], run)
      else
        call('HINCRBY', SCHED, 'ready', -1)
        reached[p], band.reached = vt, band[p]
        start(run, place, false)
      end
    end
    if call('EXISTS', key('q', place)) == 0 then unlink(p, tenant) end
  end
end

if taken > 0 then
  count('claims', taken)
  local fields = {}
  local function field(name, value)
    if value then
      fields[#fields + 1] = name
      fields[#fields + 1] = value
    end
  end
  field('band', band.reached)
  for p = 0, 2 do
    field('band' .. p, band[tostring(p)])
    field('now' .. p, reached[tostring(p)])
  end
  call('HSET', SCHED, unpack(fields))
end
if slots > 0 then
  idle()
else
  call('ZREM', IDLE, worker)
  for _, name in ipairs({ '0', '1', '2' }) do -- there is more than this worker can take
    if call('EXISTS', key('ring', name)) == 1 then
      wake()
      break
    end
  end
end
return { claims, (slots > 0 and budget == 0) and 1 or 0 }
