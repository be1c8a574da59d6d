-- Cancels one job, or a batch: its children that have not ended are cancelled by `close`.
-- ARGV: prefix, keep, job, tenant
-- Returns {state before, 1 for a batch} or nil when there is no such job of this tenant.
local id = ARGV[3]
local job = call('HMGET', key('job', id), 'state', 'index', 'run')
if not job[1] or string.match(job[2], '^(.*):') ~= ARGV[4] then return false end
if job[1] == 'waiting' then
  if call('HGET', key('batch', id), 'state') ~= 'stopping' then stop_batch(id, 'cancelled') end
  flush_all()
  return { job[1], 1 }
end
local shown = job[3] and job[3] ~= '' and call('HGET', key('run', job[3]), 'state') or job[1]
if job[1] == 'queued' then withdraw(id, 'cancelled') end
flush_all()
return { shown == 'finished' and 'running' or shown, 0 }
