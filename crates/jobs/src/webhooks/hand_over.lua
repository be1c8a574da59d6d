-- Makes deliveries of the next entries of the outbox, and takes them out of it: one step, so that an entry is in one of
-- the two places whoever dies when. Any number of workers may call it.
-- ARGV: prefix, keep, how many at most, how long a delivery is kept that has not ended (ms), width of a lane
-- Returns {entries handed over, 1 when there may be more}
local most, kept_ms, width = tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
local entries = call('XRANGE', P .. ':outbox', '-', '+', 'COUNT', most)
local endpoints, lanes, logs, done = {}, {}, {}, {}

local function endpoints_of(tenant)
  if endpoints[tenant] then return endpoints[tenant] end
  local found = {}
  for _, id in ipairs(call('SMEMBERS', key('hooks', tenant))) do
    local about = call('HMGET', record_of(id), 'enabled', 'events', 'batch_jobs')
    if about[1] == '1' then
      found[#found + 1] = { endpoint = id, lane = id, events = ' ' .. about[2] .. ' ', batch_jobs = about[3] == '1' }
    end
  end
  endpoints[tenant] = found
  return found
end

local function wants(endpoint, event)
  if event.batch ~= '' and not endpoint.batch_jobs then return false end
  return endpoint.events == '  ' or string.find(endpoint.events, ' ' .. event.event .. ' ', 1, true)
end

local function hand_to(to, event)
  deliver(to, event, kept_ms)
  lanes[to.lane], logs[to.endpoint] = true, true
end

local function hand_over(entry)
  local event = {}
  for i = 1, #entry, 2 do event[entry[i]] = entry[i + 1] end
  -- An entry that only wakes, or that an older version wrote for a job that is not there any more.
  local tenant = event.job and (event.tenant or owner_of(event.job))
  if not tenant then return end
  event.tenant, event.message, event.batch = tenant, event.job, event.batch or ''
  if (event.hook or '') ~= '' then
    local server = string.match(event.hook, '^[^/]*//[^/?#]*') or event.hook
    local lane = 'u' .. string.sub(redis.sha1hex(tenant .. '\n' .. server), 1, 31)
    hand_to({ endpoint = 'jobs/' .. tenant, lane = lane, url = event.hook }, event)
  end
  for _, endpoint in ipairs(endpoints_of(tenant)) do
    if wants(endpoint, event) then hand_to(endpoint, event) end
  end
end

for i, entry in ipairs(entries) do
  hand_over(entry[2])
  done[i] = entry[1]
end
in_parts('XDEL', P .. ':outbox', done)
for lane in pairs(lanes) do touch(lane, width) end
for endpoint in pairs(logs) do trim_log(endpoint, kept_ms) end
flush()
return { #entries, #entries == most and 1 or 0 }
