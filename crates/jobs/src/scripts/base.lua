-- In front of every script, after the constants that Rust defines (ALLOWED, VERSION, LEASE_MS, ...).
-- KEYS[1] is any key under the deployment's hash tag. All other keys are derived from the prefix in ARGV[1], which has
-- the same tag, so that every script stays on one node of a Redis Cluster. Times are Redis's own clock, in milliseconds.
-- ARGV[2] says how long jobs and results are kept after their end, in seconds: '<jobs> <results>'.
local P = ARGV[1]
local KEEP_S, KEEP_RESULT_S = string.match(ARGV[2], '(%d+) (%d+)')
local call = redis.call
local clock = call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)

local function key(kind, id) return P .. ':' .. kind .. ':' .. id end
local LEASES, DELAYED, ALONE, NEWER = P .. ':leases', P .. ':delayed', P .. ':alone', P .. ':newer'
local SETTLING, OPENING, CLOSING = P .. ':settling', P .. ':opening', P .. ':closing'
local EVENTS, STATS, SCHED, IDLE, LISTS = P .. ':events', P .. ':stats', P .. ':sched', P .. ':idle', P .. ':lists'
local DEADLINES, OUTBOX, PAUSED = P .. ':deadlines', P .. ':outbox', P .. ':paused'

local function count(name, by) call('HINCRBY', STATS, name, by or 1) end
local function emit(...) call('XADD', EVENTS, 'MAXLEN', '~', EVENTS_KEPT, '*', ...) end

-- Wakes the idle worker that was heard of last: one that was heard of long ago may be dead.
local function wake()
  local worker = call('ZPOPMAX', IDLE)
  if worker[1] and now - worker[2] < 3000 then
    call('LPUSH', key('inbox', worker[1]), 'work')
    call('EXPIRE', key('inbox', worker[1]), 60)
  end
end
