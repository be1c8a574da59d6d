-- In front of every script, after the constants that Rust defines (ALLOWED, VERSION, LEASE_MS, ...).
-- KEYS[1] is any key under the deployment's hash tag. All other keys are derived from the prefix in ARGV[1], which has
-- the same tag, so that every script stays on one node of a Redis Cluster. Times are Redis's own clock, in milliseconds.
-- ARGV[2] says how long jobs and results are kept after their end, in seconds: '<jobs> <results>'.
-- All of this text runs at every call: what costs time here costs it everywhere.
local P, call = ARGV[1], redis.call
local clock = call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)

local function key(kind, id) return P .. ':' .. kind .. ':' .. id end
local function kept(what) return string.match(ARGV[2], what == 'jobs' and '^%d+' or '%d+$') end
local function count(name, by) call('HINCRBY', P .. ':stats', name, by or 1) end
local function emit(what, id, state)
  call('XADD', P .. ':events', 'MAXLEN', '~', EVENTS_KEPT, '*', what, id, 'state', state)
end

-- Wakes the idle worker that was heard of last: one that was heard of long ago may be dead. Answers whether there is one.
local function wake()
  local worker = call('ZPOPMAX', P .. ':idle')
  if not worker[1] or now - worker[2] >= 3000 then return false end
  call('LPUSH', key('inbox', worker[1]), 'work')
  call('EXPIRE', key('inbox', worker[1]), 60)
  return true
end
