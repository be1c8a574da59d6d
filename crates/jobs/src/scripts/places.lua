-- Entries of the queues: 'r' and a run, or 'b' and a batch.

local function place_entry(place, entry, seq)
  call('ZADD', key('q', place), seq, entry)
  link(split_place(place))
end

local function next_seq() return call('INCR', P .. ':seq') end

-- A run's `state` is '<state> <seq> <waiter>': the waiter is '<job> <tail of its state>' while one job waits for the run and
-- '-' when several do, or none.
local function set_state(run, record, state)
  record.state = state
  call('HSET', key('run', run), 'state', state .. ' ' .. record.seq .. ' ' .. record.waiter)
end

-- A run's `terms` are a line '<version> <kind> <slots> <memory>', a line of the first call's hash (32 bytes) and the flight,
-- and what it is wanted for: '<max attempts> <time-out in s>' and its places, a line each.
local function each_place(wants, does)
  for place in string.gmatch(wants, '\n([^\n]+)') do does(place) end
end
local function limits_of(wants)
  local max, wall = string.match(wants, '^(%d+) (%d+)')
  return tonumber(max), tonumber(wall)
end

-- Puts a run into the queue again, at its old place, so that what was interrupted is next.
local function enqueue(run, record)
  set_state(run, record, 'queued')
  each_place(record.wants, function(place) place_entry(place, 'r' .. run, record.seq) end)
  add(P .. ':sched', 'ready', 1)
  wake()
end
