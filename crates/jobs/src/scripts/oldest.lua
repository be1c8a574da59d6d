-- When the oldest job was created that has not ended, among those of some tenants. Only reads.
-- ARGV: prefix, keep, where the walk over the tenants goes on ('0' at first), '<kind>:<state>' for each listing of open jobs
-- Returns {where it goes on ('0' at the end), the time in ms or '', the time now in ms}.
local walk = call('ZSCAN', P .. ':lists', ARGV[3], 'MATCH', 't*', 'COUNT', 20)
local oldest
for i = 1, #walk[2], 2 do
  local tenant = string.sub(walk[2][i], 2)
  for j = 4, #ARGV do
    -- Listings are in the order of arrival.
    local first = call('ZRANGE', key('list', tenant .. ':' .. ARGV[j]), 0, 0)[1]
    if first then
      local _, _, _, tail = parse_state(job_of(first))
      -- Of a record that cannot be read anything may be true.
      local created = tail and tonumber(string.match(tail, '^%S+ (%d+)')) or 0
      if not oldest or created < oldest then oldest = created end
    end
  end
end
return { walk[1], oldest and text(oldest) or '', now_text }
