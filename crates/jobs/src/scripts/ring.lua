-- Who is next. For each priority p (0 interactive, 1 normal, 2 batch) a ring holds the tenants that have something
-- queued, scored by virtual time: run time used, divided by the tenant's weight. The least is next. The priorities
-- share in the same way, by the weights below, so that none starves. A claim is charged with the time that a run of
-- its priority takes on average; when the run ends, the charge is corrected to what it took.
local PRIORITIES, WEIGHTS = { '0', '1', '2' }, { ['0'] = 16, ['1'] = 4, ['2'] = 1 }

-- Puts a tenant into a ring, unless it is there or at its running cap. Idle time earns no credit: who comes back
-- starts at the virtual time that the ring has reached. `known` is what the tenant's record says, for whoever has read it.
local function link(p, tenant, known)
  local ring = key('ring', p)
  if call('ZSCORE', ring, tenant) then return end
  local t = known or call('HMGET', key('tenant', tenant), 'running', 'max_running', 'vt' .. p)
  if t[2] and tonumber(t[1] or 0) >= tonumber(t[2]) then return end
  local s = call('HMGET', P .. ':sched', 'now' .. p, 'band' .. p, 'band')
  call('ZADD', ring, math.max(tonumber(t[3] or 0), tonumber(s[1] or 0)), tenant)
  if call('ZCARD', ring) == 1 then
    call('HSET', P .. ':sched', 'band' .. p, math.max(tonumber(s[2] or 0), tonumber(s[3] or 0)))
  end
end

-- A place is one queue: '<p>:<tenant>'.
local function split_place(place) return sub(place, 1, 1), sub(place, 3) end
