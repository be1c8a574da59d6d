-- Extends the leases of what a worker holds.
-- ARGV: prefix, keep, run, fence, run, fence, ...
-- Returns {run, 'lost' | 'cancelled', ...} for those that must stop.
local stop, lease_ends, held = {}, text(now + LEASE_MS), {}
for i = 3, #ARGV, 2 do held[#held + 1] = ARGV[i] end
read_runs(held)
for i = 3, #ARGV, 2 do
  local run = ARGV[i]
  local record = held_run(run, ARGV[i + 1])
  if record then call('ZADD', P .. ':leases', lease_ends, run) end
  if not record or record.more.cancel then
    stop[#stop + 1] = run
    stop[#stop + 1] = record and 'cancelled' or 'lost'
  end
end
flush_all()
return stop
