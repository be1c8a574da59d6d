-- Job records, their listings, and the counters of the batch that a job belongs to.

-- More jobs of a tenant are open. One that had none may be new: `lists` names all that have listings to be swept.
local function opened(tenant, number, before)
  add(key('tenant', tenant), 'open', number)
  if before == 0 then call('ZADD', P .. ':lists', 'NX', now, 't' .. tenant) end
end

-- A new record. `index` is '<tenant>:<kind>'; newline-separated tags ('campaign/<name>', 'label/<name>=<value>') of a
-- tenant are listings as well; `run` is the run that it waits for, or ''.
local function create(id, state, index, details, request, tags, run)
  call('HSET', key('job', id), 'state', state, 'index', index, 'meta', VERSION .. ' ' .. now .. ' ' .. details, 'req', request,
    'run', run)
  join_set(key('list', index .. ':' .. state), id)
  if tags and tags ~= '' then
    call('HSET', key('job', id), 'tags', tags)
    local tenant = string.match(index, '^(.*):')
    for tag in string.gmatch(tags, '[^\n]+') do
      join_set(key('list', tenant .. ':' .. tag), id)
      call('ZADD', P .. ':lists', 'NX', now, 'l' .. tenant .. ':' .. tag)
    end
  end
end

local child_ended -- (batch, state), in the part on batches

-- The only place where the stored state of a job changes. `ended` is '<started or -> <finished> <result or ->';
-- `what` and `text` are a further field. Appends one event, and the entry for webhooks. Returns whether it may be.
local function transition(id, to, ended, what, text)
  local record = key('job', id)
  local job = call('HMGET', record, 'state', 'index', 'batch', 'hook', 'due')
  local from, index = job[1], job[2]
  if not from or not string.find(ALLOWED, ' ' .. from .. '>' .. to .. ' ', 1, true) then return false end
  if what then
    call('HSET', record, 'state', to, 'run', '', 'end', ended, what, text)
  else
    call('HSET', record, 'state', to, 'run', '', 'end', ended)
  end
  call('EXPIRE', record, kept('jobs'))
  leave_set(key('list', index .. ':' .. from), id)
  join_set(key('list', index .. ':' .. to), id)
  local tenant, kind = string.match(index, '^(.*):(.*)$')
  add(key('tenant', tenant), 'open', -1)
  if job[5] then call('ZREM', P .. ':deadlines', id) end
  emit('job', id, to)
  count('jobs_' .. to)
  if job[4] then
    local event = kind == 'batch' and 'batch.completed' or 'job.' .. to
    call('XADD', P .. ':outbox', '*', 'job', id, 'event', event, 'hook', job[4], 'at', now)
  end
  if job[3] then child_ended(job[3], to) end
  return true
end

-- The summary of a stored result, which is '<version> <time>\n<receipt>\n<summary>'.
local function summary_of(stored) return string.match(stored, '^[^\n]*\n[^\n]*\n(.*)$') end

-- Ends a job with a stored result.
local function answer_from_cache(id, result, summary)
  call('HSET', key('job', id), 'cached', 1)
  local batch = call('HGET', key('job', id), 'batch')
  if batch then add(key('batch', batch), 'cached', 1) end
  count('cache_hits')
  transition(id, 'succeeded', '- ' .. now .. ' ' .. result, 'found', summary)
end
