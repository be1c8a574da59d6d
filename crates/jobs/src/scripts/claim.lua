-- Claims runs for a worker, each under a lease, at most as many as fences are given.
-- ARGV: prefix, keep, worker, the record version it knows, slots and memory in MB that it has free, 1 when it holds nothing,
--       fence, fence, ...
-- Returns {claims, more}: a run, '<version> <kind> <slots> <memory> <attempt> <1 if it must run alone> <time-out in s>' and
-- '<plan>\n<request>' for each claim, in the order of the fences, and 1 when the budget of this call was used up before the slots were.
local worker, known, memory, nothing_held = ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[6]), ARGV[7] == '1'
local most, claims = #ARGV - 7, {}
local slots = most > 0 and tonumber(ARGV[5]) or 0 -- none as soon as there is no fence left

-- Nearly always there is none of these.
local unusual = call('EXISTS', P .. ':paused', P .. ':alone', P .. ':newer') > 0
local heads, nothing = {}, not unusual -- of each ring: the next tenant, its time, the one after, its time
for _, p in ipairs(PRIORITIES) do
  heads[p] = call('ZRANGE', key('ring', p), 0, 1, 'WITHSCORES')
  if heads[p][1] then nothing = false end
end
if nothing or (unusual and call('EXISTS', P .. ':paused') == 1) then
  call('ZADD', P .. ':idle', now_text, worker)
  return { claims, 0 }
end

-- What is read once and written back once.
local sched = call('HMGET', P .. ':sched', 'band0', 'band1', 'band2', 'est0', 'est1', 'est2')
local band, estimate, charges, charged, reached, reached_band, taken_from_ready = {}, {}, {}, {}, {}, nil, 0
for i, p in ipairs(PRIORITIES) do
  local expected = math.max(math.floor(tonumber(sched[i + 3] or 0) + 0.5), 1)
  band[p], estimate[p], charges[p] = tonumber(sched[i] or 0), expected, text(expected)
end
local tenants = {} -- weight, cap and running runs of those that were charged
local batches = {} -- popped, and the only entry of their queue: no need to put them back before the end
local popped = {} -- places that may be empty now
local buffers = {} -- entries that were popped ahead: {entry, seq, entry, seq, ...} and where the next is
local aside = {} -- runs that were set aside for newer workers
local leases, lease_ends = {}, text(now + LEASE_MS)

-- Time that the head of a ring is charged with, not yet written: it stays the head for a while.
local owed = {}
local function write_owed(p)
  local debt = owed[p]
  if debt then
    owed[p] = nil
    add_time(p, debt.tenant, debt.time)
  end
end
local only -- the priority that alone has something queued, while that is known
local function forget_head(p)
  write_owed(p)
  heads[p], only = nil, nil
end

local function charge(p, tenant)
  local t = tenants[tenant]
  if not t then
    local record = call('HMGET', key('tenant', tenant), 'weight', 'max_running', 'running')
    t = { weight = tonumber(record[1] or 1), cap = tonumber(record[2] or nil), running = tonumber(record[3] or 0), new = 0 }
    tenants[tenant] = t
  end
  t.new = t.new + 1
  local own = estimate[p] / t.weight
  band[p], charged[p] = band[p] + estimate[p] / WEIGHTS[p], true
  local head = heads[p]
  if head and head[1] == tenant then
    head[2] = head[2] + own
    owed[p] = owed[p] or { tenant = tenant, time = 0 }
    owed[p].time = owed[p].time + own
    if head[3] and head[2] >= tonumber(head[4]) then forget_head(p) end -- another is next
  else
    forget_head(p)
    add_time(p, tenant, own)
  end
  if t.cap and t.running + t.new >= t.cap then
    -- At its running cap: it stands in no ring until one of its runs has ended.
    for _, q in ipairs(PRIORITIES) do
      forget_head(q)
      unlink(q, tenant)
    end
  end
end

-- What runs are made of; most have the same.
local abouts, wanted = {}, {}
local function terms(record)
  local about, _, wants, plan = terms_of(record)
  local size = abouts[about]
  if not size then
    local v, need, mem = string.match(about, '^(%S+) %S+ (%S+) (%S+)$')
    size = { v = tonumber(v), need = tonumber(need), mem = tonumber(mem) }
    abouts[about] = size
  end
  local want = wanted[wants]
  if not want then
    local wall, places = string.match(wants, '^%S+ (%S+) (.*)$')
    want = { wall = wall, places = places }
    wanted[wants] = want
  end
  return about, size, want, plan
end

local function start(run, place, record, about, size, wall, plan, alone)
  local n, p, tenant = #claims, split_place(place)
  record.claim = ARGV[8 + n / 3] .. ' ' .. charges[p] .. ' ' .. now_text .. ' ' .. place .. ' ' .. wall .. ' ' .. worker
  record.state, record.changed = 'running', true
  local m = #leases
  leases[m + 1], leases[m + 2] = lease_ends, run
  charge(p, tenant)
  memory, most, nothing_held = memory - size.mem, most - 1, false
  slots = most > 0 and slots - size.need or 0
  taken_from_ready = taken_from_ready + 1
  local attempt = record.more.attempt
  claims[n + 1], claims[n + 3] = run, brought_back('plan', run, plan)
  claims[n + 2] = about .. (attempt and ' ' .. text(attempt + 1) or ' 1') .. (alone and ' 1 ' or ' 0 ') .. wall
end

-- seldom
parts = { read_batch = read_batch, start_child = start_child, next_seq = next_seq, flush_batches = flush_batches }
-- often

local budget, newer_batches = most * 4 + 20, 0
if unusual then
  -- Takes a run that was set aside, from a sorted set.
  local function start_aside(set, run, alone)
    call('ZREM', set, run)
    local record = run_of(run)
    local about, size, want, plan = terms(record)
    start(run, string.match(want.places, '^%S+'), record, about, size, want.wall, plan, alone)
  end

  -- What killed its workers twice runs alone, so that a third loss is its own doing. One worker at a time takes no more
  -- until it is idle, so that the run does not wait for ever.
  local function outcasts()
    local outcast = call('ZRANGE', P .. ':alone', 0, 0)[1]
    if not outcast then return false end
    if nothing_held then
      start_aside(P .. ':alone', outcast, true)
      call('DEL', P .. ':alone:by')
      return true
    end
    local by = call('GET', P .. ':alone:by')
    if by and by ~= worker then return false end
    call('SET', P .. ':alone:by', worker, 'PX', 15000)
    return true
  end

  if outcasts() then
    slots = 0
  else
    -- Runs that an older worker left to those who know their version.
    for _, run in ipairs(call('ZRANGEBYSCORE', P .. ':newer', '-inf', known, 'LIMIT', 0, most)) do
      if slots > 0 then start_aside(P .. ':newer', run, false) end
    end
  end
end

while slots > 0 and budget > 0 do
  budget = budget - 1
  -- The priority, then the tenant, that has had the least for its weight.
  local p = only
  if not p then
    local waiting = 0
    for _, name in ipairs(PRIORITIES) do
      heads[name] = heads[name] or call('ZRANGE', key('ring', name), 0, 1, 'WITHSCORES')
      if heads[name][1] then
        waiting = waiting + 1
        if not p or band[name] < band[p] then p = name end
      end
    end
    if not p then break end
    only = waiting == 1 and p
  end
  local tenant, vt, time = heads[p][1], heads[p][2], band[p]
  local place = p .. ':' .. tenant
  local open, entry, seq = batches[place], nil, nil
  if open then
    entry, seq = open.entry, open.seq
  else
    local buffer = buffers[place]
    if not buffer or not buffer[buffer.at] then
      buffer = call('ZPOPMIN', key('q', place), math.min(slots, most, 16))
      buffer.at, buffers[place], popped[place] = 1, buffer, true
      local ahead = {}
      for i = 1, #buffer, 2 do
        if sub(buffer[i], 1, 1) == 'r' then ahead[#ahead + 1] = sub(buffer[i], 2) end
      end
      read_runs(ahead)
    end
    entry, seq, buffer.at = buffer[buffer.at], buffer[buffer.at + 1], buffer.at + 2
  end
  if not entry then
    forget_head(p)
    unlink(p, tenant)
  elseif sub(entry, 1, 1) == 'b' then
    local batch = sub(entry, 2)
    local yielded = seldom()
    local about = open and open.about or yielded.read_batch(batch)
    local newer = about.v > known
    local fits = nothing_held or (about.need <= slots and about.mem <= memory)
    if fits and not newer and yielded.start_child(batch, about, place) then reached[p], reached_band = vt, time end
    batches[place] = nil
    if call('EXISTS', key('pend', batch)) == 1 then
      if open or (not buffers[place][buffers[place].at] and call('EXISTS', key('q', place)) == 0) then
        batches[place] = { entry = entry, seq = seq, about = about }
      else
        -- It goes to the end: what its tenant submitted meanwhile is not delayed by all of it.
        call('ZADD', key('q', place), fits and yielded.next_seq() or seq, entry)
      end
    end
    newer_batches = newer_batches + (newer and 1 or 0)
    if not fits or newer_batches > 3 then break end
  else
    local run = sub(entry, 2)
    local record = run_of(run)
    if not record or record.state ~= 'queued' then
      -- Cannot happen while Redis keeps its data; if it does, it must not block the queue.
    else
      local about, size, want, plan = terms(record)
      if not nothing_held and (size.need > slots or size.mem > memory) then
        -- It is next, so it is waited for: nothing that came later takes its room. With nothing held anything fits.
        call('ZADD', key('q', place), seq, entry)
        break
      end
      if want.places ~= place then
        for other in string.gmatch(want.places, '%S+') do
          if other ~= place then
            forget_head(sub(other, 1, 1))
            displace_entry(other, entry)
          end
        end
      end
      if size.v > known then
        call('ZADD', P .. ':newer', size.v, run)
        aside[run] = true
      else
        reached[p], reached_band = vt, time
        start(run, place, record, about, size, want.wall, plan, false)
      end
    end
  end
end
for tenant, t in pairs(tenants) do call('HINCRBY', key('tenant', tenant), 'running', text(t.new)) end
for place, open in pairs(batches) do call('ZADD', key('q', place), open.seq, open.entry) end
for place, buffer in pairs(buffers) do -- what was popped ahead and is not wanted now
  local back = {}
  for at = buffer.at, #buffer, 2 do
    -- Not what was taken for another tenant or priority meanwhile.
    local run = sub(buffer[at], 2)
    if not aside[run] and not (runs[run] and runs[run].state == 'running') then
      back[#back + 1] = buffer[at + 1]
      back[#back + 1] = buffer[at]
    end
  end
  if #back > 0 then
    call('ZADD', key('q', place), unpack(back))
    link(split_place(place))
  end
end
for place in pairs(popped) do -- whoever has nothing queued any more leaves its ring
  if call('EXISTS', key('q', place)) == 0 then
    local p, tenant = split_place(place)
    local head = heads[p]
    if head and head[1] == tenant then
      owed[p] = nil
      leave_ring(p, tenant, head[2])
    else
      unlink(p, tenant)
    end
  end
end
for _, p in ipairs(PRIORITIES) do write_owed(p) end

if taken_from_ready > 0 then
  count('claims', #claims / 3)
  add(P .. ':sched', 'ready', -taken_from_ready)
  local fields = {}
  local function field(name, value)
    if value then
      fields[#fields + 1] = name
      fields[#fields + 1] = value
    end
  end
  field('band', reached_band)
  for _, p in ipairs(PRIORITIES) do
    field('band' .. p, charged[p] and band[p])
    field('now' .. p, reached[p])
  end
  if fields[1] then call('HSET', P .. ':sched', unpack(fields)) end -- nothing is charged when all that was taken joined others
  in_parts('ZADD', P .. ':leases', leases)
  local ids = {}
  for i = 1, #claims, 3 do ids[(i + 2) / 3] = claims[i] end
  write_event('run', ids, 'running')
  if parts then parts.flush_batches() end
  flush()
end
if slots > 0 then
  call('ZADD', P .. ':idle', now, worker)
else
  call('ZREM', P .. ':idle', worker)
  -- There may be more than this worker can take.
  if call('EXISTS', key('ring', '0'), key('ring', '1'), key('ring', '2')) > 0 then wake() end
end
return { claims, (slots > 0 and budget == 0) and 1 or 0 }
