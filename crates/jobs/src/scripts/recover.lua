-- The runs that a claim gave to a worker who never got its answer: the connection broke on the way.
-- ARGV: prefix, keep, how long ago in ms the claim was sent, and given up, fence, fence, ... (those that it offered)
-- Returns {run, fence, ...}.
local offered, found = {}, {}
for i = 5, #ARGV do offered[ARGV[i]] = true end
-- Nobody renews such a lease, so it ends when a lease ends that was given meanwhile. A second more on both sides, as a clock that is set
-- or another server's may differ.
local first, last = now + LEASE_MS - ARGV[3] - 1000, now + LEASE_MS - ARGV[4] + 1000
for _, run in ipairs(call('ZRANGEBYSCORE', P .. ':leases', first, last)) do
  local record = run_of(run)
  local _, _, _, fence = claim_of(record or { claim = '' })
  if fence and offered[fence] then
    found[#found + 1] = run
    found[#found + 1] = fence
  end
end
return found
