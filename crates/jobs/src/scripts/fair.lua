-- Who is next. For each priority p (0 interactive, 1 normal, 2 batch) a ring holds the tenants that have something
-- queued, scored by virtual time: run time used, divided by the tenant's weight. The least is next. The priorities
-- share in the same way, by the weights below, so that none starves. A claim is charged with the time that a run of
-- its priority takes on average; when the run ends, the charge is corrected to what it took.
local WEIGHTS = { ['0'] = 16, ['1'] = 4, ['2'] = 1 }

-- Puts a tenant into a ring, unless it is there or at its running cap. Idle time earns no credit: who comes back
-- starts at the virtual time that the ring has reached.
local function link(p, tenant)
  local ring = key('ring', p)
  if call('ZSCORE', ring, tenant) then return end
  local t = call('HMGET', key('tenant', tenant), 'running', 'max_running', 'vt' .. p)
  if t[2] and tonumber(t[1] or 0) >= tonumber(t[2]) then return end
  local s = call('HMGET', P .. ':sched', 'now' .. p, 'band' .. p, 'band')
  call('ZADD', ring, math.max(tonumber(t[3] or 0), tonumber(s[1] or 0)), tenant)
  if call('ZCARD', ring) == 1 then
    call('HSET', P .. ':sched', 'band' .. p, math.max(tonumber(s[2] or 0), tonumber(s[3] or 0)))
  end
end

local function unlink(p, tenant)
  local vt = call('ZSCORE', key('ring', p), tenant)
  if not vt then return end
  call('ZREM', key('ring', p), tenant)
  call('HSET', key('tenant', tenant), 'vt' .. p, vt)
end

-- A place is one queue: '<p>:<tenant>'.
local function split_place(place) return string.sub(place, 1, 1), string.sub(place, 3) end

-- Places an entry, 'r' and a run, or 'b' and a batch.
local function place_entry(place, entry, seq)
  call('ZADD', key('q', place), seq, entry)
  link(split_place(place))
end

local function displace_entry(place, entry)
  if call('ZREM', key('q', place), entry) == 1 and call('EXISTS', key('q', place)) == 0 then unlink(split_place(place)) end
end

local function next_seq() return call('INCR', P .. ':seq') end

-- A tenant's running count went down: it may be below its cap again.
local function relink(tenant)
  for p = 0, 2 do
    if call('EXISTS', key('q', p .. ':' .. tenant)) == 1 then link(tostring(p), tenant) end
  end
end

-- Adds to the virtual time of a tenant; in its ring, or where it is kept meanwhile. Answers its score if it is in the ring.
local function add_time(p, tenant, time)
  local vt = call('ZADD', key('ring', p), 'XX', 'INCR', time, tenant)
  if not vt then call('HINCRBYFLOAT', key('tenant', tenant), 'vt' .. p, time) end
  return vt
end

-- The charge for a claim is corrected to the time that the run took, and its slot is given back.
-- `by` is the place that the claim was made for.
local corrections, taken, capped, estimates = {}, {}, {}, nil
local function discharge(by, estimate, started)
  local p, tenant = split_place(by)
  local took = now - started
  if math.abs(took - estimate) > 1 then
    corrections[by] = (corrections[by] or 0) + took - estimate
    if not estimates then
      local s = call('HMGET', P .. ':sched', 'est0', 'est1', 'est2')
      estimates = { ['0'] = tonumber(s[1] or 1), ['1'] = tonumber(s[2] or 1), ['2'] = tonumber(s[3] or 1) }
    end
    taken[p] = true
    estimates[p] = estimates[p] + (took - estimates[p]) / 16
  end
  capped[tenant] = true
  add(key('tenant', tenant), 'running', -1)
end

-- Writes what `discharge` added up; a tenant that was at its cap may be below it again.
local function flush_charges()
  for by, correction in pairs(corrections) do
    local p, tenant = split_place(by)
    add_time(p, tenant, correction / (call('HGET', key('tenant', tenant), 'weight') or 1))
    call('HINCRBYFLOAT', P .. ':sched', 'band' .. p, correction / WEIGHTS[p])
  end
  for p in pairs(taken) do call('HSET', P .. ':sched', 'est' .. p, estimates[p]) end
  flush_sums()
  for tenant in pairs(capped) do
    if call('HEXISTS', key('tenant', tenant), 'max_running') == 1 then relink(tenant) end
  end
end
