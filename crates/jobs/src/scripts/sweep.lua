-- Takes what has expired out of the listings of the tenant, or out of the listing of a tag, that was swept longest ago.
-- ARGV: prefix, keep, '<kind>:<state>' for each listing that a tenant may have of ended jobs
-- Returns 1 when there may be more to do.
local oldest = call('ZRANGE', P .. ':lists', 0, 0, 'WITHSCORES')
-- A tenth of the time that jobs are kept, so that what has expired never takes up much beside what has not.
if not oldest[1] or now - oldest[2] < math.min(SWEEP_EVERY_MS, kept_jobs * 100) then return 0 end
local name, removed, left = string.sub(oldest[1], 2), 0, 0
local function sweep(listing)
  -- The oldest expire first, more or less; what is left between them is found another time.
  for _, id in ipairs(call('ZRANGE', listing, 0, CHUNK - 1)) do
    if call('EXISTS', key('job', id)) == 0 then removed = removed + call('ZREM', listing, id) end
  end
  left = left + call('EXISTS', listing)
end
if string.sub(oldest[1], 1, 1) == 'l' then
  sweep(key('list', name))
else
  for i = 3, #ARGV do sweep(key('list', name .. ':' .. ARGV[i])) end
  -- A tenant is forgotten when it has no job at all.
  local open = tonumber(call('HGET', key('tenant', name), 'open') or 0)
  if left == 0 and open == 0 and not call('HGET', key('tenant', name), 'weight') then call('DEL', key('tenant', name)) end
  left = left + open
end
if removed == 0 then
  if left > 0 then call('ZADD', P .. ':lists', now, oldest[1]) else call('ZREM', P .. ':lists', oldest[1]) end
end
return 1
