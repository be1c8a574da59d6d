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
  local s = call('HMGET', SCHED, 'now' .. p, 'band' .. p, 'band')
  call('ZADD', ring, math.max(tonumber(t[3] or 0), tonumber(s[1] or 0)), tenant)
  if call('ZCARD', ring) == 1 then
    call('HSET', SCHED, 'band' .. p, math.max(tonumber(s[2] or 0), tonumber(s[3] or 0)))
  end
end

local function unlink(p, tenant)
  local vt = call('ZSCORE', key('ring', p), tenant)
  if not vt then return end
  call('ZREM', key('ring', p), tenant)
  call('HSET', key('tenant', tenant), 'vt' .. p, vt)
end

local function split_place(place) return string.sub(place, 1, 1), string.sub(place, 3) end

-- Places an entry ('r' and a run, or 'b' and a batch) into one queue: `place` is '<p>:<tenant>'.
local function place_entry(place, entry, seq)
  call('ZADD', key('q', place), seq, entry)
  link(split_place(place))
end

local function displace_entry(place, entry)
  if call('ZREM', key('q', place), entry) == 1 and call('ZCARD', key('q', place)) == 0 then unlink(split_place(place)) end
end

local function next_seq() return call('INCR', P .. ':seq') end

-- A tenant's running count went down: it may be below its cap again.
local function relink(tenant)
  for p = 0, 2 do
    if call('EXISTS', key('q', p .. ':' .. tenant)) == 1 then link(tostring(p), tenant) end
  end
end

-- The charge for a claim is corrected to the time that the run took, and its slot is given back.
-- `by` is the place that the claim was made for.
local function discharge(by, estimate, started)
  local p, tenant = split_place(by)
  local took, estimate = now - started, tonumber(estimate)
  local t = call('HMGET', key('tenant', tenant), 'weight', 'max_running')
  local correction = took - estimate
  if math.abs(correction) > 1 then
    local own = correction / (t[1] or 1)
    if call('ZSCORE', key('ring', p), tenant) then
      call('ZINCRBY', key('ring', p), own, tenant)
    else
      call('HINCRBYFLOAT', key('tenant', tenant), 'vt' .. p, own)
    end
    call('HINCRBYFLOAT', SCHED, 'band' .. p, correction / WEIGHTS[p])
    call('HSET', SCHED, 'est' .. p, estimate + correction / 16)
  end
  call('HINCRBY', key('tenant', tenant), 'running', -1)
  if t[2] then relink(tenant) end
end
