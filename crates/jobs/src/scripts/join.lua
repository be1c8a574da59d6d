-- How a job comes to a run that is in flight already.
-- `want` has: place, limits, call (optional), starts (optional), plan (a function). The caller writes the job's record.

-- More than this many tenants and priorities do not make a run more urgent.
local PLACES_MOST = 16

local function join(run, id, want)
  local record = run_of(run)
  local about, call_and_flight, wants, plan = terms_of(record)
  -- One waiting job stands in the run's record, several are a set: nearly always it is one.
  local waiter = record.waiter
  if waiter ~= '-' then
    call('SADD', key('waiters', run), waiter)
    local owner = owner_of(waiter)
    if owner then call('HSET', key('calls', run), owner .. '/' .. sub(call_and_flight, 1, 32), waiter) end
    record.waiter, record.changed = '-', true
  end
  call('SADD', key('waiters', run), id)
  if want.call then call('HSET', key('calls', run), want.call, id) end
  -- Whoever waits gets at least what it asked for.
  local max, wall = limits_of(wants)
  local own_max, own_wall = limits_of(want.limits)
  local places, known, n = '', false, 0
  each_place(wants, function(place)
    n = n + 1
    known = known or place == want.place
    places = places .. ' ' .. place
  end)
  local new = not known and n < PLACES_MOST
  if new then places = places .. ' ' .. want.place end
  local wanted = text(math.max(max, own_max)) .. ' ' .. text(math.max(wall, own_wall)) .. places
  if wanted ~= wants then set_terms(record, about, call_and_flight, wanted, plan) end
  if own_wall > wall then set_plan(run, record, want.plan()) end
  if new and record.state == 'queued' then place_entry(want.place, 'r' .. run, record.seq) end
  if record.more.starts and not want.starts then -- it was to start later, and somebody wants it now
    call('ZREM', P .. ':delayed', run)
    set_field(record, 'starts', nil)
    enqueue(run, record)
  end
  count('coalesced')
end
