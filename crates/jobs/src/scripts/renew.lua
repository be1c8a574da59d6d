-- Extends the leases of what a worker holds.
-- ARGV: prefix, keep, run, fence, run, fence, ...
-- Returns {run, 'lost' | 'cancelled', ...} for those that must stop.
local stop, lease_ends, held = {}, text(now + LEASE_MS), {}
for i = 3, #ARGV, 2 do held[#held + 1] = ARGV[i] end
read_runs(held)

-- seldom
parts = { held_run = held_run, flush_all = flush_all }
-- often

for i = 3, #ARGV, 2 do
  local run, fence = ARGV[i], ARGV[i + 1]
  local record = run_of(run)
  -- Nearly always it is running, and the caller's.
  if not record or record.state ~= 'running' or not is_claimed_by(record, fence) then record = seldom().held_run(run, fence) end
  if record then call('ZADD', P .. ':leases', lease_ends, run) end
  if not record or record.more.cancel then
    stop[#stop + 1] = run
    stop[#stop + 1] = record and 'cancelled' or 'lost'
  end
end
if parts then parts.flush_all() end
return stop
