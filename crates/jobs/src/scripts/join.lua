-- How a job comes to a run that is in flight already.
-- `want` has: seq and tail (of the job), place, limits, call (optional), starts (optional), plan (a function).

-- More than this many tenants and priorities do not make a run more urgent.
local PLACES_MOST = 16

-- One waiting job is a field of the run, several are a set: nearly always it is one.
local function add_waiter(run, id)
  local first = call('HGET', key('run', run), 'job')
  if first then
    call('SADD', key('waiters', run), first, id)
    call('HDEL', key('run', run), 'job')
  else
    call('SADD', key('waiters', run), id)
  end
end

local function join(run, id, want)
  add_waiter(run, id)
  call('HSET', key('job', id), 'state', 'queued ' .. want.seq .. ' ' .. run .. ' ' .. want.tail)
  local record = call('HMGET', key('run', run), 'state', 'wants', 'starts')
  local state, seq = string.match(record[1], '^(%S+) (%S+)')
  local wants = record[2]
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
  wants = math.max(max, own_max) .. ' ' .. math.max(wall, own_wall) .. places
  if wants ~= record[2] then call('HSET', key('run', run), 'wants', wants) end
  if new and state == 'queued' then place_entry(want.place, 'r' .. run, seq) end
  if record[3] and not want.starts then -- it was to start later, and somebody wants it now
    call('ZREM', P .. ':delayed', run)
    call('HDEL', key('run', run), 'starts')
    enqueue(run, wants, seq)
  end
  count('coalesced')
end
