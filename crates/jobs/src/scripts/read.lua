-- Reads a job with what its run knows, in one call. Changes nothing.
-- ARGV: prefix, job, tenant. Returns {} or {job fields, run fields, runs ahead of it in the queue or -1}.
local job = redis.call('HGETALL', job_key(ARGV[2]))
local tenant = redis.call('HGET', job_key(ARGV[2]), 'tenant')
if tenant ~= ARGV[3] then return {} end
local run = redis.call('HGET', job_key(ARGV[2]), 'run')
if not run then return { job, {}, -1 } end
local names = { 'state', 'attempt', 'stalls', 'interruptions', 'progress', 'worker', 'started' }
local values, fields = redis.call('HMGET', run_key(run), unpack(names)), {}
for i, name in ipairs(names) do
  if values[i] then
    fields[#fields + 1] = name
    fields[#fields + 1] = values[i]
  end
end
return { job, fields, redis.call('ZRANK', READY, run) or -1 }
