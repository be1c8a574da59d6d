-- How a job comes to a run that is in flight already.
-- `want` has: seq and tail (of the job), place, limits, call (optional), starts (optional), plan (a function).

-- More than this many tenants and priorities do not make a run more urgent.
local PLACES_MOST = 16

local function join(run, id, want)
  local stored = call('HMGET', key('run', run), 'state', 'terms', 'starts')
  local state, seq, waiter = split3(stored[1], ' ')
  local about, call_and_flight, wants = split3(stored[2], '\n')
  local record = { seq = seq, waiter = '-', wants = wants }
  -- One waiting job stands in the run's state, several are a set: nearly always it is one.
  if waiter ~= '-' then
    call('SADD', key('waiters', run), string.match(waiter, '^%S+'))
    set_state(run, record, state)
  end
  call('SADD', key('waiters', run), id)
  call('HSET', key('job', id), 'state', 'queued ' .. want.seq .. ' ' .. run .. ' ' .. want.tail)
  if want.call then call('HSET', key('run', run), 'c:' .. want.call, id) end
  -- Whoever waits gets at least what it asked for.
  local max, wall = limits_of(wants)
  local own_max, own_wall = limits_of(want.limits)
  if own_wall > wall then call('HSET', key('run', run), 'plan', want.plan()) end
  local places, known, n = '', false, 0
  each_place(wants, function(place)
    n = n + 1
    known = known or place == want.place
    places = places .. '\n' .. place
  end)
  local new = not known and n < PLACES_MOST
  if new then places = places .. '\n' .. want.place end
  record.wants = math.max(max, own_max) .. ' ' .. math.max(wall, own_wall) .. places
  if record.wants ~= wants then call('HSET', key('run', run), 'terms', about .. '\n' .. call_and_flight .. '\n' .. record.wants) end
  if new and state == 'queued' then place_entry(want.place, 'r' .. run, seq) end
  if stored[3] and not want.starts then -- it was to start later, and somebody wants it now
    call('ZREM', P .. ':delayed', run)
    call('HDEL', key('run', run), 'starts')
    enqueue(run, record)
  end
  count('coalesced')
end
