-- Makes a batch that was staged in `items` and `plans` visible: from here on it is there as a whole.
-- ARGV: prefix, keep, batch, tenant, kind of its children, priority, mode, jobs, what follows a failure
--       ('continue' | 'stop'), max attempts, time-out in s, slots, memory in MB, details (JSON), request (JSON), tags,
--       webhook, idempotency key, fingerprint, most open jobs of a tenant, the held-out series that it looks at (JSON) or ''
-- Returns {batch id, 'known' | 'repeated' | 'queued' | 'conflict' | 'full' | 'incomplete'}
local id, tenant, kind, prio, mode, total = unpack(ARGV, 3, 8)
local tags, hook, idempotency = ARGV[16], ARGV[17], ARGV[18]
if job_of(id) then return { id, 'known' } end
local function unstage(other, how)
  call('UNLINK', key('items', id), key('plans', id))
  return { other, how }
end
local idempotent = key('idem', tenant .. ':' .. idempotency)
if idempotency ~= '' then
  local earlier = call('HMGET', idempotent, 'job', 'of')
  if earlier[1] then return unstage(earlier[1], earlier[2] == ARGV[19] and 'repeated' or 'conflict') end
end
local record = key('tenant', tenant)
local open = call('HMGET', record, 'open', 'max_queued')
if (open[1] or 0) + total + 1 > tonumber(open[2] or ARGV[20]) then
  count('refused_full')
  flush()
  return unstage('', 'full')
end
if call('LLEN', key('items', id)) ~= tonumber(total) then return unstage('', 'incomplete') end

call('PERSIST', key('items', id))
call('PERSIST', key('plans', id))
local seq = call('INCR', P .. ':seq')
put_job(id, job_text(id, 'waiting', text(seq), '-', (hook ~= '' and 'h ' or '- ') .. now_text .. ' ' .. tenant .. ':batch',
  line_of({ tags = tags ~= '' and tag(id, tenant, tags, seq) or nil, hook = hook ~= '' and hook or nil }),
  ARGV[14], ARGV[15]), 'open')
join_set(key('list', tenant .. ':batch:waiting'), seq, id)
if ARGV[21] ~= '' then look(tenant, id, cjson.decode(ARGV[21])) end
if idempotency ~= '' then
  call('HSET', idempotent, 'job', id, 'of', ARGV[19])
  call('EXPIRE', idempotent, IDEMPOTENCY_KEPT_S)
end
list_tenant(tenant, tonumber(open[1] or 0))
add(record, 'open', total + 1)
call('HSET', key('batch', id), 'v', VERSION, 'state', 'open', 'kind', kind, 'place', prio .. ':' .. tenant, 'mode', mode,
  'total', total, 'left', total, 'on_failure', ARGV[9], 'limits', ARGV[10] .. ' ' .. ARGV[11], 'need', ARGV[12], 'mem', ARGV[13],
  'meta', ARGV[14], 'tags', tags)
call('ZADD', P .. ':opening', now, id)
call('ZADD', P .. ':open', now_text, id)
count('submitted', total)
flush()
return { id, 'queued' }
