-- Cancels one job. The run goes on while another job waits for it.
-- ARGV: prefix, job, tenant
-- Returns {state before} or {} when there is no such job of this tenant.
local id = ARGV[2]
local job = redis.call('HMGET', job_key(id), 'state', 'tenant', 'run')
if not job[1] or job[2] ~= ARGV[3] then return {} end
if job[1] ~= 'queued' then return { job[1] } end
local run = job[3]
local record = redis.call('HMGET', run_key(run), 'state', 'key', 'keep')
transition(id, 'cancelled', record[3] or 604800)
redis.call('SREM', waiters_key(run), id)
if redis.call('SCARD', waiters_key(run)) == 0 then
  if record[1] == 'running' then
    close_flight(run, record[2])
    redis.call('HSET', run_key(run), 'cancel', 1)
    -- The worker would hear of it at its next renewal; this makes it renew now.
    local worker = redis.call('HGET', run_key(run), 'worker')
    redis.call('LPUSH', stops_key(worker), run)
    redis.call('EXPIRE', stops_key(worker), 60)
    emit('run', run, 'state', 'cancelling')
  elseif record[1] and record[1] ~= 'finished' then
    conclude(run, 'cancelled')
  end
end
return { record[1] or 'queued' }
