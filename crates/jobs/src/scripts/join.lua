-- How a job comes to a run that is in flight already.
-- `want` has: place, limits, call (optional), starts (optional), plan (a function).

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
  call('HSET', key('job', id), 'run', run)
  local record = call('HMGET', key('run', run), 'state', 'places', 'seq', 'limits', 'starts')
  if want.call then call('HSET', key('run', run), 'c:' .. want.call, id) end
  -- Whoever waits gets at least what it asked for: '<attempts> <time-out in s>'.
  local max, wall = string.match(record[4], '^(%d+) (%d+)')
  local own_max, own_wall = string.match(want.limits, '^(%d+) (%d+)')
  max, wall, own_max, own_wall = tonumber(max), tonumber(wall), tonumber(own_max), tonumber(own_wall)
  if own_wall > wall then call('HSET', key('run', run), 'plan', want.plan()) end
  if own_max > max or own_wall > wall then
    call('HSET', key('run', run), 'limits', math.max(max, own_max) .. ' ' .. math.max(wall, own_wall))
  end
  local places, known, n = record[2], false, 0
  each_place(places, function(place)
    n = n + 1
    known = known or place == want.place
  end)
  if not known and n < PLACES_MOST then
    places = places .. '\n' .. want.place
    call('HSET', key('run', run), 'places', places)
    if record[1] == 'queued' then place_entry(want.place, 'r' .. run, record[3]) end
  end
  if record[5] and not want.starts then -- it was to start later, and somebody wants it now
    call('ZREM', P .. ':delayed', run)
    call('HDEL', key('run', run), 'starts')
    enqueue(run, places, record[3])
  end
  count('coalesced')
end
