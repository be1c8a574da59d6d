-- Jobs: their listings, their ends, and the counters of the batch that a job belongs to.

local owners = {} -- tenant and kind, by index: '<tenant>:<kind>'
local function split_index(index)
  local owner = owners[index] or { string.match(index, '^(.*):(.*)$') }
  owners[index] = owner
  return owner[1], owner[2]
end
local function index_of(tail) -- the last of its three words
  return sub(tail, find(tail, ' ', find(tail, ' ', 1, true) + 1, true) + 1)
end
local function owner_of(id)
  local _, _, _, tail = parse_state(job_of(id))
  return tail and (split_index(index_of(tail)))
end
local function is_live(id) return sub(job_of(id) or '', 1, 7) == 'queued ' end

-- Newline-separated tags ('campaign/<name>', 'label/<name>=<value>') of a tenant are listings as well. Answers them as the record
-- has them.
local function tag(id, tenant, tags, seq)
  for name in string.gmatch(tags, '[^\n]+') do
    join_set(key('list', tenant .. ':' .. name), seq, id)
    call('ZADD', P .. ':lists', 'NX', now, 'l' .. tenant .. ':' .. name)
  end
  return (string.gsub(tags, '\n', '\30'))
end

local child_ended -- (batch, state, ended), in the part on batches

-- Whether a tenant has endpoints that are told of the ends of its jobs.
local listening = {}
local function is_listening(tenant)
  if listening[tenant] == nil then listening[tenant] = call('SISMEMBER', P .. ':listeners', tenant) == 1 end
  return listening[tenant]
end

-- What jobs of the same tenant and kind have in common when they come from one state to another.
local moves, made = {}, {}
local function move_of(index, from, to)
  local known = moves[index]
  if not known then
    known = {}
    moves[index] = known
  end
  local move = known[to]
  if not move or move.from ~= from then
    local tenant, kind = split_index(index)
    move = {
      from = from, allowed = find(ALLOWED, ' ' .. from .. '>' .. to .. ' ', 1, true), leaves = key('list', index .. ':' .. from),
      enters = key('list', index .. ':' .. to), tenant = tenant, record = key('tenant', tenant), to = to, ids = {}, left = {}, entered = {},
      -- A validation is part of a call that is answered; nobody else asked for it.
      told = kind ~= 'strategy_validate' and is_listening(tenant), event = kind == 'batch' and 'batch.completed' or 'job.' .. to,
    }
    known[to] = move
    made[#made + 1] = move
  end
  return move
end

write_ends = function()
  for _, move in ipairs(made) do
    local ids = move.ids
    in_parts('ZREM', move.leaves, move.left)
    in_parts('ZADD', move.enters, move.entered)
    add(move.record, 'open', -#ids)
    count('jobs_' .. move.to, #ids)
    write_event('job', ids, move.to)
  end
  made, moves = {}, {}
end

-- The only place where a job ends. `ended` is '<started or -> <finished> <result or ->', with ' c' behind it when the cache
-- answered it. Appends one event, and the entry for webhooks. Returns whether it may be.
local function transition(id, to, ended, found, error)
  local stored = job_of(id)
  local from, seq, _, tail = parse_state(stored)
  local move = from and move_of(index_of(tail), from, to)
  if not move or not move.allowed then return false end
  -- Of one that has not ended three lines are empty.
  local first = find(stored, '\n', 1, true)
  local entered, n = move.entered, #move.ids
  entered[2 * n + 1], entered[2 * n + 2], move.ids[n + 1] = seq, id, id
  -- One that is new in this call may not be written yet.
  if unwritten[id] then leave_set(move.leaves, id) else move.left[#move.left + 1] = id end
  put_job(id, to .. ' ' .. seq .. ' - ' .. tail .. '\n' .. ended .. '\n' .. (found or '') .. '\n' .. (error or '') .. sub(stored, first + 3), 'ended')
  if not move.told and sub(tail, 1, 1) == '-' then return true end
  local more = job_fields(stored)
  if more.due then call('ZREM', P .. ':deadlines', id) end
  if move.told or more.hook then
    call('XADD', P .. ':outbox', 'MAXLEN', '~', OUTBOX_KEPT, '*', 'job', id, 'event', move.event, 'hook', more.hook or '',
      'at', now_text, 'tenant', move.tenant, 'batch', more.batch or '')
  end
  if more.batch then child_ended(more.batch, to, ended) end
  return true
end
