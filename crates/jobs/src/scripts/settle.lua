-- Gives a bounded number of the jobs that wait for a finished run its outcome.
-- ARGV: prefix, run, how many at most. Returns how many still wait.
local run = ARGV[2]
local outcome = redis.call('HMGET', run_key(run), 'outcome', 'result', 'summary', 'error', 'keep', 'started', 'finished')
if not outcome[1] then
  redis.call('ZREM', SETTLING, run)
  return 0
end
local fields = {}
local function field(name, value)
  if value then
    fields[#fields + 1] = name
    fields[#fields + 1] = value
  end
end
field('result', outcome[2])
field('summary', outcome[3])
field('error', outcome[1] ~= 'succeeded' and outcome[4])
field('started', outcome[6])
for _, id in ipairs(redis.call('SPOP', waiters_key(run), ARGV[3])) do
  transition(id, outcome[1], outcome[5], unpack(fields))
end
local left = redis.call('SCARD', waiters_key(run))
if left == 0 then
  redis.call('ZREM', SETTLING, run)
  redis.call('HDEL', run_key(run), 'summary')
  redis.call('EXPIRE', run_key(run), RUN_KEPT_S)
end
return left
