-- Job records, their listings, and the counters of the batch that a job belongs to.

-- More jobs of a tenant are open. One that had none may be new: `lists` names all that have listings to be swept.
local function opened(tenant, number, before)
  add(key('tenant', tenant), 'open', number)
  if before == 0 then call('ZADD', P .. ':lists', 'NX', now, 't' .. tenant) end
end

-- A job's `state` is '<state> <seq> <run or -> <flags> <time> <index>': `seq` is its place in all listings, which are in
-- the order of arrival; the flags say which of the fields `batch`, `hook` and `due` it has (b, h, d, or -); the time is
-- that of its creation; `index` is '<tenant>:<kind>'. The last three never change: `tail`.
local function parse_state(text)
  if not text then return nil end
  local state, seq, rest = split3(text, ' ')
  local run = string.match(rest, '^%S+')
  return state, seq, run, string.sub(rest, #run + 2)
end
local owners = {} -- tenant and kind, by index
local function split_index(index)
  local owner = owners[index] or { string.match(index, '^(.*):(.*)$') }
  owners[index] = owner
  return owner[1], owner[2]
end
local function index_of(state)
  local _, _, _, tail = parse_state(state)
  local _, _, index = split3(tail, ' ')
  return index
end
local function owner_of(id)
  local state = call('HGET', key('job', id), 'state')
  return state and (split_index(index_of(state)))
end
local function is_live(id) return string.sub(call('HGET', key('job', id), 'state') or '', 1, 7) == 'queued ' end

-- A new record, in the listing of its state. `data` is '<version> <details>\n<request>', which never changes.
local function create(id, state, list, data, seq, run, tail)
  call('HSET', key('job', id), 'state', state .. ' ' .. seq .. ' ' .. run .. ' ' .. tail, 'data', data)
  join_set(list, seq, id)
end

-- Newline-separated tags ('campaign/<name>', 'label/<name>=<value>') of a tenant are listings as well.
local function tag(id, index, tags, seq)
  call('HSET', key('job', id), 'tags', tags)
  local tenant = string.match(index, '^(.*):')
  for name in string.gmatch(tags, '[^\n]+') do
    join_set(key('list', tenant .. ':' .. name), seq, id)
    call('ZADD', P .. ':lists', 'NX', now, 'l' .. tenant .. ':' .. name)
  end
end

local function request_of(data) return string.match(data, '^[^\n]*\n(.*)$') end

local child_ended -- (batch, state, ended), in the part on batches

-- Whether a tenant has endpoints that are told of the ends of its jobs.
local listening = {}
local function is_listening(tenant)
  if listening[tenant] == nil then listening[tenant] = call('SISMEMBER', P .. ':listeners', tenant) == 1 end
  return listening[tenant]
end

-- The only place where the stored state of a job changes. `ended` is '<started or -> <finished> <result or ->';
-- `what` and `value` are a further field; `seq` and `tail` are those of a job that is known to be queued. Appends one event,
-- and the entry for webhooks. Returns whether it may be.
local function transition(id, to, ended, what, value, seq, tail)
  local record, from = key('job', id), 'queued'
  if not tail then
    local _
    from, seq, _, tail = parse_state(call('HGET', record, 'state'))
  end
  if not from or not string.find(ALLOWED, ' ' .. from .. '>' .. to .. ' ', 1, true) then return false end
  if what then
    call('HSET', record, 'state', to .. ' ' .. seq .. ' - ' .. tail, 'end', ended, what, value)
  else
    call('HSET', record, 'state', to .. ' ' .. seq .. ' - ' .. tail, 'end', ended)
  end
  local _, _, index = split3(tail, ' ')
  local tenant, kind = split_index(index)
  call('EXPIRE', record, kept_jobs)
  leave_set(key('list', index .. ':' .. from), id)
  join_set(key('list', index .. ':' .. to), seq, id)
  add(key('tenant', tenant), 'open', -1)
  emit('job', id, to)
  count('jobs_' .. to)
  -- A validation is part of a call that is answered; nobody else asked for it.
  local told = kind ~= 'strategy_validate' and is_listening(tenant)
  if not told and string.sub(tail, 1, 1) == '-' then return true end
  local more = call('HMGET', record, 'batch', 'hook', 'due')
  if more[3] then call('ZREM', P .. ':deadlines', id) end
  if told or more[2] then
    local event = kind == 'batch' and 'batch.completed' or 'job.' .. to
    call('XADD', P .. ':outbox', 'MAXLEN', '~', OUTBOX_KEPT, '*', 'job', id, 'event', event, 'hook', more[2] or '',
      'at', now_text, 'tenant', tenant, 'batch', more[1] or '')
  end
  if more[1] then child_ended(more[1], to, ended) end
  return true
end
