-- In front of every script, after the constants that Rust defines (ALLOWED, VERSION, LEASE_MS, ...).
-- KEYS[1] is any key under the deployment's hash tag. All other keys are derived from the prefix in ARGV[1], which has
-- the same tag, so that every script stays on one node of a Redis Cluster. Times are Redis's own clock, in milliseconds.
-- ARGV[2] says how long jobs and results are kept after their end, and trials after the last one of their campaign, in
-- seconds: '<jobs> <results> <trials>'.
-- All of this text runs at every call: what costs time here costs it everywhere.
local P, call, find, sub, format = ARGV[1], redis.call, string.find, string.sub, string.format
local JOB, RUN, STATS = P .. ':job:', P .. ':run:', P .. ':stats'
local clock = call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
-- A number costs more than a text when it is handed to Redis.
local function text(number) return format('%d', number) end
local now_text = text(now)

-- The three parts that a character divides a text into at its first two places; nothing if they are not there. Much
-- faster than a pattern.
local function split3(text, by)
  local first = find(text, by, 1, true)
  local second = first and find(text, by, first + 1, true)
  if not second then return nil end
  return sub(text, 1, first - 1), sub(text, first + 1, second - 1), sub(text, second + 1)
end

local function key(kind, id) return P .. ':' .. kind .. ':' .. id end
local kept_jobs, kept_results, kept_trials = string.match(ARGV[2], '^(%d+) (%d+) (%d+)$')

-- Wakes the idle worker that was heard of last: one that was heard of long ago may be dead. Answers whether there is one.
local function wake()
  local worker = call('ZPOPMAX', P .. ':idle')
  if not worker[1] or now - worker[2] >= 3000 then return false end
  call('LPUSH', key('inbox', worker[1]), 'work')
  call('EXPIRE', key('inbox', worker[1]), 60)
  return true
end

-- What the steps of one call add up to is written once, by `flush` at its end: counters, by record and field, members
-- that join or leave a sorted set, keys that are deleted, events, and the records of jobs and runs.
local sums, joining, leaving, events, dropped = {}, {}, {}, {}, {}
local function add(record, field, by)
  local fields = sums[record]
  if not fields then
    fields = {}
    sums[record] = fields
  end
  fields[field] = (fields[field] or 0) + by
end
local function count(name, by) add(STATS, name, by or 1) end
local function join_set(set, score, id) -- in the order of scores, if it can be: what comes last costs Redis least
  local members = joining[set]
  if not members then
    members = {}
    joining[set] = members
  end
  local n = #members
  members[n + 1], members[n + 2] = score, id
end
local function leave_set(set, id)
  local members = joining[set]
  -- Who joined in the same call did so a moment ago.
  for at = members and #members or 0, 2, -2 do
    if members[at] == id then
      table.remove(members, at)
      table.remove(members, at - 1)
      return
    end
  end
  local ids = leaving[set]
  if not ids then
    ids = {}
    leaving[set] = ids
  end
  ids[#ids + 1] = id
end

-- An event says that something is new about jobs or runs ('job' or 'run'): their ids, and the state they are in now.
local function write_event(what, ids, state)
  if ids[1] then
    call('XADD', P .. ':events', 'MAXLEN', '~', EVENTS_KEPT, '*', what, table.concat(ids, ' '), 'state', state)
  end
end
local function emit(what, id, state)
  local name = what .. ' ' .. state
  local event = events[name]
  if not event then
    event = { what = what, state = state, ids = {} }
    events[name] = event
  end
  event.ids[#event.ids + 1] = id
end

local function drop(name) dropped[#dropped + 1] = name end

local function flush_sums()
  local written = sums
  sums = {}
  for record, fields in pairs(written) do
    for field, by in pairs(fields) do
      if by ~= 0 then call('HINCRBY', record, field, text(by)) end
    end
  end
end

-- Calls a command with many arguments, all behind `set` if there is one; Lua's stack is limited.
local function in_parts(command, set, all)
  for first = 1, #all, 1000 do
    local last = math.min(first + 999, #all)
    if set then call(command, set, unpack(all, first, last)) else call(command, unpack(all, first, last)) end
  end
end

-- In parts that not every call has: on records, jobs and trials.
local write_records, write_ends, write_trials

local function flush()
  if write_ends then write_ends() end
  if write_trials then write_trials() end
  flush_sums()
  if write_records then write_records() end
  for set, ids in pairs(leaving) do in_parts('ZREM', set, ids) end
  for set, members in pairs(joining) do in_parts('ZADD', set, members) end
  for _, event in pairs(events) do write_event(event.what, event.ids, event.state) end
  in_parts('DEL', nil, dropped)
  joining, leaving, events, dropped = {}, {}, {}, {}
end

-- A tenant that has no job open may be new: `lists` names all that have listings to be swept.
local function list_tenant(tenant, open)
  if open == 0 then call('ZADD', P .. ':lists', 'NX', now_text, 't' .. tenant) end
end

-- One of several steps of a call: what is wrong with it is its own answer and does not keep the others from theirs.
local function isolated(step, at)
  local fine, answer = pcall(step, at)
  return fine and answer or { type(answer) == 'table' and answer.err or tostring(answer), 'error' }
end
