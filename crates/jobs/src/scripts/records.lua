-- The records of jobs and runs. Each is one text, so that one command reads many, and another writes many: what a call needs
-- is read once, and what it changed is written by `flush`. The last of a text's lines is the only one that may have breaks of its own.
--
-- A job:
--   '<state> <seq> <run or -> <flags> <time> <tenant>:<kind>': `seq` is its place in all listings, which are in the order of
--       arrival; the flags say which of the fields `batch`, `hook` and `due` it has (b, h, d, or -); the time is that of its
--       creation. The last three never change: `tail`
--   '<started or -> <finished> <result or -> <c if the cache answered it>' once it has ended, else ''
--   what it found (JSON) or ''
--   why it failed (JSON) or ''
--   fields that few have: batch, hook, due, tags (with the byte 30 between them), again (the job that runs it once more)
--   '<version> <details>', a line, and the request, both JSON: `data`, which never changes
--
-- A run:
--   '<state> <seq> <waiter>': the waiter is the job that waits for it, or '-' when several do, or none
--   its last claim, '<fence> <estimate> <started> <place> <time-out> <worker>', or ''
--   fields that few have: attempt, stalls, interruptions, put_off (counters), progress (JSON), awaits (a batch), starts (ms), cancel and
--       stale (1), and once it is over for several jobs outcome, ended, found, error
--   '<version> <kind> <slots> <memory>'
--   the hash of the first call (32 bytes) and the flight
--   what it is wanted for: '<max attempts> <time-out in s> <place> <place> ...'
--   its plan: '<plan>\n<request>', both JSON
--
-- A request or a plan that is longer than LONG stands in a key of its own, and '@' in its place: what a call reads of many stays small.
local jobs, runs = {}, {} -- texts of jobs; runs as they are now
local unwritten = {} -- 'open' or 'ended' for each job that is to be written
local function keep_apart(kind, id, document)
  if #document <= LONG then return document end
  call('SET', key(kind, id), document)
  return '@'
end
-- Whether the last line of a record, its request or plan, does.
local function stands_apart(stored) return sub(stored, -2) == '\n@' end
local function brought_back(kind, id, document)
  return document == '@' and call('GET', key(kind, id)) or document
end

-- Fields stand in one line: '<name>=<value>', with the byte 31 between them.
local none = {}
local function fields_of(line)
  if line == '' then return none end
  local fields = {}
  for name, value in string.gmatch(line, '([^=\31]+)=([^\31]*)') do fields[name] = value end
  return fields
end
local function line_of(fields)
  if fields == none then return '' end
  local parts = {}
  for name, value in pairs(fields) do parts[#parts + 1] = name .. '=' .. value end
  return table.concat(parts, '\31')
end

-- The text of a job; false when there is none.
local function job_of(id)
  local stored = jobs[id]
  if stored == nil then
    stored = call('GET', JOB .. id)
    jobs[id] = stored
  end
  return stored
end

-- State, seq, run and tail of a job's text.
local function parse_state(stored)
  if not stored then return nil end
  local first = find(stored, ' ', 1, true)
  local second = find(stored, ' ', first + 1, true)
  local third = find(stored, ' ', second + 1, true)
  return sub(stored, 1, first - 1), sub(stored, first + 1, second - 1), sub(stored, second + 1, third - 1),
    sub(stored, third + 1, find(stored, '\n', third, true) - 1)
end

-- The fields that few jobs have, and where their line begins and ends.
local function job_fields(stored)
  local first = 1
  for _ = 1, 4 do first = find(stored, '\n', first, true) + 1 end
  local last = find(stored, '\n', first, true) - 1
  return fields_of(sub(stored, first, last)), first, last
end

local function request_of(id, stored)
  local first = 1
  for _ = 1, 6 do first = find(stored, '\n', first, true) + 1 end
  return brought_back('request', id, sub(stored, first))
end

local function put_job(id, stored, how)
  jobs[id], unwritten[id] = stored, how
end

-- The text of a job that has not ended; `more` is its line of fields.
local function job_text(id, state, seq, run, tail, more, details, request)
  return state .. ' ' .. seq .. ' ' .. run .. ' ' .. tail .. '\n\n\n\n' .. more .. '\n' .. VERSION .. ' ' .. details .. '\n'
    .. keep_apart('request', id, request)
end

-- An ended job is run once more.
local function note_again(id, again)
  local stored = job_of(id)
  if not stored then return end
  local fields, first, last = job_fields(stored)
  local known = { again = again }
  for name, value in pairs(fields) do known[name] = known[name] or value end
  jobs[id] = sub(stored, 1, first - 1) .. line_of(known) .. sub(stored, last + 1)
  call('SET', JOB .. id, jobs[id], 'KEEPTTL')
end

-- A queued job waits for another run.
local function attach(id, run)
  local stored = job_of(id)
  local state, seq, _, tail = parse_state(stored)
  put_job(id, state .. ' ' .. seq .. ' ' .. run .. ' ' .. tail .. sub(stored, (find(stored, '\n', 1, true))), 'open')
end

local function parse_run(stored)
  local one = find(stored, ' ', 1, true)
  local two = find(stored, ' ', one + 1, true)
  local first = find(stored, '\n', two + 1, true)
  local second = find(stored, '\n', first + 1, true)
  local third = find(stored, '\n', second + 1, true)
  return {
    state = sub(stored, 1, one - 1), seq = sub(stored, one + 1, two - 1), waiter = sub(stored, two + 1, first - 1),
    claim = sub(stored, first + 1, second - 1), more = fields_of(sub(stored, second + 1, third - 1)),
    text = stored, at = third + 1, changed = false,
  }
end

-- The record of a run; false when there is none. Who changes it says so: `changed`.
local function run_of(run)
  local record = runs[run]
  if record == nil then
    local stored = call('GET', RUN .. run)
    record = stored and parse_run(stored)
    runs[run] = record
  end
  return record
end

-- Reads many at once.
local function read_ahead(prefix, ids, known, parse)
  local keys, wanted, n = {}, {}, 0
  for i = 1, #ids do
    local id = ids[i]
    if known[id] == nil then
      n = n + 1
      keys[n], wanted[n] = prefix .. id, id
    end
  end
  for first = 1, n, 1000 do
    local there = call('MGET', unpack(keys, first, math.min(first + 999, n)))
    for i, stored in ipairs(there) do known[wanted[first + i - 1]] = stored and parse and parse(stored) or stored end
  end
end
local function read_runs(ids) read_ahead(RUN, ids, runs, parse_run) end
local function read_jobs(ids) read_ahead(JOB, ids, jobs) end

local function set_state(record, state)
  record.state, record.changed = state, true
end
local function set_field(record, name, value)
  if record.more == none then record.more = {} end
  record.more[name], record.changed = value, true
end
local function increase(record, name)
  local value = (record.more[name] or 0) + 1
  set_field(record, name, text(value))
  return value
end

-- What a run was made of: '<version> <kind> <slots> <memory>', hash and flight, what it is wanted for, and its plan.
local function terms_of(record)
  local stored, at = record.text, record.at
  local first = find(stored, '\n', at, true)
  local second = find(stored, '\n', first + 1, true)
  local third = find(stored, '\n', second + 1, true)
  return sub(stored, at, first - 1), sub(stored, first + 1, second - 1), sub(stored, second + 1, third - 1), sub(stored, third + 1)
end
local function set_terms(record, about, call_and_flight, wants, plan)
  record.text = about .. '\n' .. call_and_flight .. '\n' .. wants .. '\n' .. plan
  record.at, record.changed = 1, true
end
local function set_plan(run, record, plan)
  local about, call_and_flight, wants, before = terms_of(record)
  plan = keep_apart('plan', run, plan)
  if before == '@' and plan ~= '@' then drop(key('plan', run)) end
  set_terms(record, about, call_and_flight, wants, plan)
end
local function flight_of(record)
  local first = find(record.text, '\n', record.at, true)
  return sub(record.text, first + 33, find(record.text, '\n', first + 1, true) - 1)
end
local function wants_of(record)
  local _, _, wants = terms_of(record)
  return wants
end

-- When a run was last claimed, for which place, at what estimate, and under which fence; nothing when it was not.
local function claim_of(record)
  local claim = record.claim
  local first = find(claim, ' ', 1, true)
  if not first then return nil end
  local second = find(claim, ' ', first + 1, true)
  local third = find(claim, ' ', second + 1, true)
  return sub(claim, second + 1, third - 1), sub(claim, third + 1, find(claim, ' ', third + 1, true) - 1),
    sub(claim, first + 1, second - 1) + 0, sub(claim, 1, first - 1)
end
local function given_and_worker(record)
  local given, worker = string.match(record.claim, ' (%d+) (%S+)$')
  return tonumber(given), worker
end
local function is_claimed_by(record, fence)
  return sub(record.claim, 1, #fence + 1) == fence .. ' '
end

local function drop_run(run, record)
  runs[run] = false
  drop(RUN .. run)
  if record.waiter == '-' then drop(key('calls', run)) end
  if stands_apart(record.text) then drop(key('plan', run)) end
end

write_records = function()
  local all, n = {}, 0
  for run, record in pairs(runs) do
    if record and record.changed then
      record.changed = false
      all[n + 1] = RUN .. run
      all[n + 2] = record.state .. ' ' .. record.seq .. ' ' .. record.waiter .. '\n' .. record.claim .. '\n'
        .. line_of(record.more) .. '\n' .. sub(record.text, record.at)
      n = n + 2
    end
  end
  for id, how in pairs(unwritten) do
    if how == 'ended' then
      call('SET', JOB .. id, jobs[id], 'EX', kept_jobs)
      if stands_apart(jobs[id]) then call('EXPIRE', key('request', id), kept_jobs) end
    else
      all[n + 1], all[n + 2], n = JOB .. id, jobs[id], n + 2
    end
  end
  in_parts('MSET', nil, all)
  unwritten = {}
end
