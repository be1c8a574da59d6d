-- Job records, their listings, and the counters of the batch that a job belongs to.

-- Newline-separated tags ('campaign/<name>', 'label/<name>=<value>') of a tenant are listings as well.
local function each_list(index, tags, does)
  local tenant = string.match(index, '^(.*):')
  for tag in string.gmatch(tags or '', '[^\n]+') do does('list:' .. tenant .. ':' .. tag) end
end

local function enlist(list, id)
  if call('ZADD', P .. ':' .. list, 0, id) == 1 then call('ZADD', LISTS, 'NX', now, list) end
end

-- A new record. `index` is '<tenant>:<kind>'; what follows are further fields.
local function create(id, state, index, meta, request, tags, ...)
  call('HSET', key('job', id), 'state', state, 'index', index, 'meta', VERSION .. ' ' .. now .. ' ' .. meta, 'req', request, ...)
  if tags ~= '' then
    call('HSET', key('job', id), 'tags', tags)
    each_list(index, tags, function(list) enlist(list, id) end)
  end
  enlist('list:' .. index .. ':' .. state, id)
end

local child_ended -- (batch, state, cached), below

-- The only place where the stored state of a job changes. `ended` is '<started or -> <finished> <result or ->';
-- further fields follow as name, value, ... Appends one event, and the entry for webhooks. Returns whether it may be.
local function transition(id, to, ended, ...)
  local record = key('job', id)
  local job = call('HMGET', record, 'state', 'index', 'batch', 'hook', 'due')
  local from = job[1]
  if not from or not ALLOWED[from] or not ALLOWED[from][to] then return false end
  call('HSET', record, 'state', to, 'end', ended, ...)
  call('HDEL', record, 'run')
  call('EXPIRE', record, KEEP_S)
  call('ZREM', P .. ':list:' .. job[2] .. ':' .. from, id)
  enlist('list:' .. job[2] .. ':' .. to, id)
  local tenant, kind = string.match(job[2], '^(.*):(.*)$')
  call('HINCRBY', key('tenant', tenant), 'open', -1)
  if job[5] then call('ZREM', DEADLINES, id) end
  emit('job', id, 'state', to)
  count('jobs_' .. to)
  if job[4] then
    local event = kind == 'batch' and 'batch.completed' or 'job.' .. to
    call('XADD', OUTBOX, '*', 'job', id, 'event', event, 'hook', job[4], 'at', now)
  end
  if job[3] then child_ended(job[3], to) end
  return true
end

-- Ends a job with a stored result.
local function answer_from_cache(id, result, summary)
  call('HSET', key('job', id), 'cached', 1)
  local batch = call('HGET', key('job', id), 'batch')
  if batch then call('HINCRBY', key('batch', batch), 'cached', 1) end
  call('HSET', key('result', result), 'used', now)
  count('cache_hits')
  transition(id, 'succeeded', '- ' .. now .. ' ' .. result, 'found', summary)
end
