-- Stored results: what they are, who may use them, and how they go.
-- One is '<version> <time> <units> <file><facets>\n<receipt>\n<summary>'; facets are '\31exchange=...\31symbol=...\31',
-- with what else an invalidation may name; one that an older version stored has only version and time in its first line.
-- In `cached` each has the score <second of its last use> * UNITS + units, so that the index says what each takes up
-- even when its record has expired.
local UNIT, UNITS = 64, 2097152

local CACHED, this_second = P .. ':cached', math.floor(now / 1000) * UNITS
local function place_of(units) return text(this_second + units) end

-- Nothing for one of an older version, which no index knows.
local function head_of(stored)
  local time, units, file, facets = string.match(stored, '^%S+ (%S+) (%S+) ([^\31\n]+)([^\n]*)')
  return time and { time = tonumber(time), units = tonumber(units), file = file, facets = facets }
end

-- Whether an invalidation means a result: that has all that is named. Nothing named means all.
local function means(selector, facets)
  for part in string.gmatch(selector, '[^\31]+') do
    if not string.find(facets, '\31' .. part .. '\31', 1, true) then return false end
  end
  return true
end

-- Results that an invalidation means are stored until `purge` has come by, but may not be used any more.
local purging
local function is_invalid(head)
  if not purging then
    purging = call('EXISTS', P .. ':purging') == 1 and call('HGETALL', P .. ':purging') or {}
  end
  for i = 1, #purging, 2 do
    if head.time <= tonumber(string.match(purging[i + 1], '^%S+')) and means(purging[i], head.facets) then return true end
  end
  return false
end

-- The summary of a stored result that may answer a job. This is its last use.
local function use(id, stored)
  local head = head_of(stored)
  if head then
    if is_invalid(head) then return nil end
    join_set(CACHED, place_of(head.units), id)
  end
  local _, _, summary = split3(stored, '\n')
  return summary
end

-- Ends a job with a stored result.
local function answer_from_cache(id, result, summary, batch)
  if batch then add(key('batch', batch), 'cached', 1) end
  count('cache_hits')
  transition(id, 'succeeded', '- ' .. now_text .. ' ' .. result .. ' c', summary)
end

-- Whether a run began before an invalidation. Then nobody joins it any more: what it finds is for those alone who wait
-- already, and its flight may be another's from now on.
local function is_outdated(record)
  if record.state ~= 'running' then return false end
  local started = claim_of(record)
  if call('ZCOUNT', P .. ':purges', started, '+inf') == 0 then return false end
  set_field(record, 'stale', '1')
  return true
end

-- The body is deleted by workers, who find its name in `garbage` until it is gone.
local function discard(file) call('SADD', P .. ':garbage', file) end

local function forget(id, units, file)
  drop(key('result', id))
  leave_set(CACHED, id)
  add(P .. ':cache', 'bytes', -units * UNIT)
  if file then discard(file) end
end
