-- Entries of the queues: 'r' and a run, or 'b' and a batch.

local function place_entry(place, entry, seq)
  call('ZADD', key('q', place), seq, entry)
  link(split_place(place))
end

local function next_seq() return call('INCR', P .. ':seq') end

-- What a run is wanted for: '<max attempts> <time-out in s> <place> <place> ...'.
local function each_place(wants, does)
  for place in string.gmatch(string.match(wants, '^%S+ %S+( .*)$'), ' (%S+)') do does(place) end
end
local function limits_of(wants)
  local max, wall = string.match(wants, '^(%d+) (%d+)')
  return tonumber(max), tonumber(wall)
end

-- Puts a run into the queue again, at its old place, so that what was interrupted is next.
local function enqueue(run, record)
  set_state(record, 'queued')
  each_place(wants_of(record), function(place) place_entry(place, 'r' .. run, record.seq) end)
  add(P .. ':sched', 'ready', 1)
  wake()
end
