-- What is charged for runs, and who leaves a ring.

-- A tenant leaves a ring with this virtual time.
local function leave_ring(p, tenant, vt)
  if call('ZREM', key('ring', p), tenant) == 1 then call('HSET', key('tenant', tenant), 'vt' .. p, vt) end
end
local function unlink(p, tenant)
  local vt = call('ZSCORE', key('ring', p), tenant)
  if vt then leave_ring(p, tenant, vt) end
end

local function displace_entry(place, entry)
  if call('ZREM', key('q', place), entry) == 1 and call('EXISTS', key('q', place)) == 0 then unlink(split_place(place)) end
end

-- A tenant's running count went down: it may be below its cap again.
local function relink(tenant)
  for _, p in ipairs(PRIORITIES) do
    if call('EXISTS', key('q', p .. ':' .. tenant)) == 1 then link(p, tenant) end
  end
end

-- Adds to the virtual time of a tenant; in its ring, or where it is kept meanwhile.
local function add_time(p, tenant, time)
  if not call('ZADD', key('ring', p), 'XX', 'INCR', time, tenant) then
    call('HINCRBYFLOAT', key('tenant', tenant), 'vt' .. p, time)
  end
end

-- The charge for a claim is corrected to the time that the run took, and its slot is given back.
-- `by` is the place that the claim was made for.
local discharged, taken, estimates = {}, {}, nil
local function discharge(by, estimate, started, unfinished)
  local charged = discharged[by]
  if not charged then
    local p, tenant = split_place(by)
    charged = { p = p, tenant = tenant, runs = 0, correction = 0 }
    discharged[by] = charged
  end
  charged.runs = charged.runs + 1
  local took = now - started
  if took > estimate + 1 or took < estimate - 1 then
    local p = charged.p
    charged.correction = charged.correction + took - estimate
    if unfinished then return end
    if not estimates then
      local s = call('HMGET', P .. ':sched', 'est0', 'est1', 'est2')
      estimates = { ['0'] = tonumber(s[1] or 1), ['1'] = tonumber(s[2] or 1), ['2'] = tonumber(s[3] or 1) }
    end
    taken[p] = true
    estimates[p] = estimates[p] + (took - estimates[p]) / 16
  end
end

-- Writes what `discharge` added up; a tenant that was at its cap may be below it again.
local function flush_charges()
  for _, charged in pairs(discharged) do
    local p, tenant, correction = charged.p, charged.tenant, charged.correction
    if correction ~= 0 then
      add_time(p, tenant, correction / (call('HGET', key('tenant', tenant), 'weight') or 1))
      call('HINCRBYFLOAT', P .. ':sched', 'band' .. p, correction / WEIGHTS[p])
    end
    add(key('tenant', tenant), 'running', -charged.runs)
  end
  for p in pairs(taken) do call('HSET', P .. ':sched', 'est' .. p, estimates[p]) end
  flush_sums()
  for _, charged in pairs(discharged) do
    if call('HEXISTS', key('tenant', charged.tenant), 'max_running') == 1 then relink(charged.tenant) end
  end
  discharged, taken = {}, {}
end
