-- How a job comes to a run that is in flight already.
-- `want` has: place, max, wall, call (optional), starts (optional), plan (a function).

-- More than this many tenants and priorities do not make a run more urgent.
local PLACES_MOST = 16

local function join(run, id, want)
  add_waiter(run, id)
  call('HSET', key('job', id), 'run', run)
  local record = call('HMGET', key('run', run), 'state', 'places', 'seq', 'max', 'wall', 'starts')
  if want.call then call('HSET', key('run', run), 'c:' .. want.call, id) end
  -- Whoever waits gets at least what it asked for.
  if tonumber(want.max) > tonumber(record[4]) then call('HSET', key('run', run), 'max', want.max) end
  if tonumber(want.wall) > tonumber(record[5]) then call('HSET', key('run', run), 'wall', want.wall, 'plan', want.plan()) end
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
  if record[6] and not want.starts then -- it was to start later, and somebody wants it now
    call('ZREM', P .. ':delayed', run)
    call('HDEL', key('run', run), 'starts')
    enqueue(run, places, record[3])
  end
  count('coalesced')
end
