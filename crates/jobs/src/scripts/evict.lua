-- Takes results away that were not used for longest while all together are larger than allowed, a bounded number. What
-- an open batch used stays. Now and then begins a walk that finds what has expired.
-- ARGV: prefix, keep, most bytes
-- Returns {evicted, 1 when there may be more to evict, {selector, ...}}: invalidations that somebody has to go on with
local about = call('HMGET', P .. ':cache', 'bytes', 'max', 'walked')
local over = (tonumber(about[1]) or 0) - ARGV[3]
if about[2] ~= ARGV[3] then call('HSET', P .. ':cache', 'max', ARGV[3]) end
if now - (tonumber(about[3]) or 0) > math.min(WALK_EVERY_MS, kept_results * 100) then
  call('HSET', P .. ':cache', 'walked', now_text)
  call('HSETNX', P .. ':purging', '-', '0 0 0') -- no result has the facet '-'
end

local evicted = 0
if over > 0 then
  local open = call('ZRANGE', P .. ':open', 0, CHUNK - 1, 'WITHSCORES')
  local function is_pinned(id, second)
    for i = 1, #open, 2 do
      if math.floor(open[i + 1] / 1000) > second then return false end -- not used since that batch came, nor the later ones
      if call('SISMEMBER', key('pins', open[i]), id) == 1 then return true end
    end
    return #open == 2 * CHUNK -- more batches are open than can be asked
  end
  local oldest = call('ZRANGE', P .. ':cached', 0, CHUNK - 1, 'WITHSCORES')
  for i = 1, #oldest, 2 do
    if over <= 0 then break end
    local id, second, units = oldest[i], math.floor(oldest[i + 1] / UNITS), oldest[i + 1] % UNITS
    if is_pinned(id, second) then
      join_set(P .. ':cached', place_of(units), id) -- out of the way of the others
    else
      local stored = call('GET', key('result', id))
      local head = stored and head_of(stored)
      forget(id, units, head and head.file)
      over = over - units * UNIT
      evicted = evicted + 1
    end
  end
  count('cache_evicted', evicted)
  flush()
end
return { evicted, (over > 0 and evicted > 0) and 1 or 0, call('HKEYS', P .. ':purging') }
