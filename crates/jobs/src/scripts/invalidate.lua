-- Invalidates one result, or begins to invalidate all that a selector means: from here on none of them answers a job,
-- what runs already is not stored for others, and nobody joins it.
-- ARGV: prefix, keep, selector ('<facet>\31<facet>...', '' for all), result id ('' for none)
-- Returns {results removed, 'done'} for a result id, else {0, 'begun'}: `purge` removes them; {0, 'busy'} when too many
-- invalidations are being carried out.
local selector, id = ARGV[3], ARGV[4]
if id ~= '' then
  local run, removed = call('GET', key('flight', id)), 0
  local record = run and run_of(run)
  if record and record.state == 'running' then
    set_field(record, 'stale', '1')
    call('DEL', key('flight', id))
  end
  local stored = call('GET', key('result', id))
  if stored then
    local head = head_of(stored)
    if head then forget(id, head.units, head.file) else drop(key('result', id)) end
    count('cache_invalidated')
    removed = 1
  end
  flush()
  return { removed, 'done' }
end
if call('HLEN', P .. ':purging') >= PURGES_MOST and call('HEXISTS', P .. ':purging', selector) == 0 then return { 0, 'busy' } end
call('HSET', P .. ':purging', selector, now_text .. ' 0 0')
call('ZADD', P .. ':purges', now_text, selector)
-- Of those that are forgotten only the time of the last is kept: as one that means all.
while call('ZCARD', P .. ':purges') > PURGES_MOST do
  local oldest = call('ZPOPMIN', P .. ':purges')
  if oldest[1] == '' then oldest = call('ZPOPMIN', P .. ':purges') end
  call('ZADD', P .. ':purges', 'GT', oldest[2], '')
end
return { 0, 'begun' }
