-- Entries of the queues: 'r' and a run, or 'b' and a batch.

local function place_entry(place, entry, seq)
  call('ZADD', key('q', place), seq, entry)
  link(split_place(place))
end

local function next_seq() return call('INCR', P .. ':seq') end

local function each_place(places, does)
  for place in string.gmatch(places, '[^\n]+') do does(place) end
end

-- Puts a run into the queue again, at its old place, so that what was interrupted is next.
local function enqueue(run, places, seq)
  call('HSET', key('run', run), 'state', 'queued', 'seq', seq)
  each_place(places, function(place) place_entry(place, 'r' .. run, seq) end)
  add(P .. ':sched', 'ready', 1)
  wake()
end
