-- Takes what has expired out of the listing that was swept longest ago. ARGV: prefix, keep, the least id that a record
-- within its time can have (ids sort by the time at which they were made). Returns how many were looked at.
local list = call('ZRANGE', LISTS, 0, 0, 'WITHSCORES')
if not list[1] or now - list[2] < SWEEP_EVERY_MS then return 0 end
local listing = P .. ':' .. list[1]
local after = call('HGET', SCHED, 'swept') or ''
local ids = call('ZRANGEBYLEX', listing, after == '' and '-' or '(' .. after, '(' .. ARGV[3], 'LIMIT', 0, CHUNK)
for _, id in ipairs(ids) do
  if call('EXISTS', key('job', id)) == 0 then call('ZREM', listing, id) end
end
if #ids == CHUNK then
  call('HSET', SCHED, 'swept', ids[#ids])
  return CHUNK
end
call('HDEL', SCHED, 'swept')
if call('EXISTS', listing) == 1 then call('ZADD', LISTS, now, list[1]) else call('ZREM', LISTS, list[1]) end
return #ids + 1
