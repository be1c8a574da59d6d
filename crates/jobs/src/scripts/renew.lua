-- Extends the leases of what a worker holds.
-- ARGV: prefix, lease in ms, run, fence, run, fence, ...
-- Returns {run, 'lost' | 'cancelled', ...} for those that must stop.
local stop = {}
for i = 3, #ARGV, 2 do
  local run = ARGV[i]
  if not holds(run, ARGV[i + 1]) then
    stop[#stop + 1] = run
    stop[#stop + 1] = 'lost'
  else
    redis.call('ZADD', LEASES, now + ARGV[2], run)
    if redis.call('HEXISTS', run_key(run), 'cancel') == 1 then
      stop[#stop + 1] = run
      stop[#stop + 1] = 'cancelled'
    end
  end
end
return stop
