-- Cancels one job, or a batch: its children that have not ended are cancelled by `close`.
-- ARGV: prefix, keep, job, tenant
-- Returns {state before, 1 for a batch} or nil when there is no such job of this tenant.
local id = ARGV[3]
if owner_of(id) ~= ARGV[4] then return false end
local state, _, run = parse_state(job_of(id))
if state == 'waiting' then
  if call('HGET', key('batch', id), 'state') ~= 'stopping' then stop_batch(id, 'cancelled') end
  flush_all()
  return { state, 1 }
end
local shown = state
if state == 'queued' then
  local record = run ~= '-' and run_of(run)
  if record then shown = record.state end
  withdraw(id, 'cancelled')
end
flush_all()
return { shown == 'finished' and 'running' or shown, 0 }
