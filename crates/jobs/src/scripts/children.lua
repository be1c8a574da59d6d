-- One page of a batch's children, in the order in which they were given.
-- ARGV: prefix, keep, batch, tenant, first, most. Returns nil or {total so far, {id, view}, ...}.
if owner_of(ARGV[3]) ~= ARGV[4] then return false end
local kids, page = key('kids', ARGV[3]), {}
local ids = call('LRANGE', kids, ARGV[5], ARGV[5] + ARGV[6] - 1)
read_jobs(ids)
for _, id in ipairs(ids) do
  if job_of(id) then page[#page + 1] = { id, view(id) } end
end
return { call('LLEN', kids), page }
