-- Goes on with an invalidation: looks at the next stored results. Any of them that have expired are taken out of the index.
-- ARGV: prefix, keep, selector. Returns {results removed since it began, 1 when there is more}.
local selector = ARGV[3]
local state = call('HGET', P .. ':purging', selector)
if not state then return { 0, 0 } end
local until_ms, cursor, removed = string.match(state, '^(%S+) (%S+) (%S+)$')
until_ms, removed = tonumber(until_ms), tonumber(removed)
local before = removed
local page = call('ZSCAN', P .. ':cached', cursor, 'COUNT', CHUNK)
for i = 1, #page[2], 2 do
  local id, units = page[2][i], page[2][i + 1] % UNITS
  local stored = call('GET', key('result', id))
  local head = stored and head_of(stored)
  if not stored then
    forget(id, units) -- expired; its body goes by its age
  elseif head and head.time <= until_ms and means(selector, head.facets) then
    forget(id, units, head.file)
    removed = removed + 1
  end
end
count('cache_invalidated', removed - before)
flush()
local more = page[1] ~= '0'
if more then
  call('HSET', P .. ':purging', selector, until_ms .. ' ' .. page[1] .. ' ' .. removed)
else
  call('HDEL', P .. ':purging', selector)
end
return { removed, more and 1 or 0 }
