-- How a job comes to its run: a run in flight is joined, else one is made.
-- `want` has: place, max, wall, need, mem, call, request, plan (a function), flight, kind.

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
    call('ZREM', DELAYED, run)
    call('HDEL', key('run', run), 'starts')
    enqueue(run, places)
  end
  count('coalesced')
end

local function new_run(run, id, want)
  call('HSET', key('job', id), 'run', run)
  call('HSET', key('run', run), 'v', VERSION, 'kind', want.kind, 'places', want.place, 'plan', want.plan(), 'req', want.request,
    'max', want.max, 'wall', want.wall, 'need', want.need, 'mem', want.mem, 'flight', want.flight, 'jobs', 1, 'job', id)
  call('SET', key('flight', want.flight), run)
end
