-- Receivers and what is due for each. A *lane* is one receiver: an endpoint, or all URLs of single jobs of one tenant on
-- one server. What waits in one lane is out of the way of all others: a lane whose receiver does not answer is given one
-- attempt at a time, and comes after those that were not served for longer.

-- Deliveries that an endpoint's log has at most; beyond that its oldest go, whatever became of them.
local LOG_MOST = 100000

-- Lanes take turns by this: of two that come to theirs within one millisecond, one is still the first.
local instant = clock[1] * 1000 + clock[2] / 1000
local function exactly(time) return string.format('%.3f', time) end

local function record_of(endpoint) return key('hook', endpoint) end
local function lane_key(lane) return key('lane', lane) end
local function due_key(lane) return key('due', lane) end
local function flying_key(lane) return key('flying', lane) end

-- How many attempts at once a lane may have: half as many after each failure in a row.
local function width_of(most, failures)
  return math.max(1, math.floor(most / 2 ^ math.min(tonumber(failures) or 0, 30)))
end

-- Says when something is to be done for a lane: the next delivery is due, or a lease ends. Those for which something is due
-- now stand in the order in which they came to that; `served` puts a lane behind the others.
local function touch(lane, most, served)
  local state = call('HMGET', lane_key(lane), 'failures', 'hold', 'off')
  local lease = tonumber(call('ZRANGE', flying_key(lane), 0, 0, 'WITHSCORES')[2])
  local at
  if not state[3] and call('ZCARD', flying_key(lane)) < width_of(most, state[1]) then
    at = tonumber(call('ZRANGE', due_key(lane), 0, 0, 'WITHSCORES')[2])
    if at then at = math.max(at, tonumber(state[2]) or 0) end
  end
  if at and at <= now then
    local place = not served and tonumber(call('ZSCORE', P .. ':lanes', lane))
    at = place and math.min(place, instant) or instant
  end
  if lease and (not at or lease < at) then at = lease end
  if at then call('ZADD', P .. ':lanes', exactly(at), lane) else call('ZREM', P .. ':lanes', lane) end
end

-- Makes the workers look, if nothing else does.
local function nudge()
  if call('XLEN', P .. ':outbox') == 0 then call('XADD', P .. ':outbox', '*', 'wake', 1) end
end

-- Takes a delivery away, wherever it stands.
local function forget_delivery(endpoint, id)
  local found = call('HMGET', key('delivery', id), 'lane', 'state')
  if found[1] then
    call('ZREM', due_key(found[1]), id)
    call('ZREM', flying_key(found[1]), id)
    if found[2] == 'pending' then count('webhooks_dropped') end
  end
  call('UNLINK', key('delivery', id))
  call('ZREM', key('log', endpoint), id)
  call('ZREM', key('undelivered', endpoint), id)
end

-- Keeps an endpoint's log within its bounds, a bounded number at a time.
local function trim_log(endpoint, kept_ms)
  local log = key('log', endpoint)
  for _, id in ipairs(call('ZRANGEBYSCORE', log, '-inf', text(now - kept_ms), 'LIMIT', 0, CHUNK)) do
    forget_delivery(endpoint, id)
  end
  if call('ZCARD', log) > LOG_MOST then
    for _, id in ipairs(call('ZRANGE', log, 0, 9)) do forget_delivery(endpoint, id) end
  end
end

-- Puts a delivery where it is due at once.
local function put_in_lane(lane, id, at, kept_ms)
  call('ZADD', due_key(lane), text(at), id)
  call('PEXPIRE', due_key(lane), kept_ms)
end

-- One event for one receiver. The id says which: handing over twice makes one delivery.
local function deliver(to, event, kept_ms)
  local about = to.endpoint .. '\n' .. (to.url or '') .. '\n' .. event.event .. '\n' .. event.message
  local id = string.sub(redis.sha1hex(about), 1, 32)
  local record = key('delivery', id)
  if call('EXISTS', record) == 1 then return id end
  call('HSET', record, 'endpoint', to.endpoint, 'lane', to.lane, 'tenant', event.tenant, 'message', event.message, 'event',
    event.event, 'at', event.at, 'state', 'pending', 'tries', 0, 'claim', 0, 'created', now_text)
  if to.url then call('HSET', record, 'url', to.url) end
  call('PEXPIRE', record, kept_ms)
  call('ZADD', key('log', to.endpoint), now_text, id)
  call('PEXPIRE', key('log', to.endpoint), kept_ms)
  put_in_lane(to.lane, id, now, kept_ms)
  return id
end

-- Whether a tenant's jobs are told to anybody may have changed.
local function refresh_listener(tenant)
  for _, id in ipairs(call('SMEMBERS', key('hooks', tenant))) do
    if call('HGET', record_of(id), 'enabled') == '1' then
      call('SADD', P .. ':listeners', tenant)
      return
    end
  end
  call('SREM', P .. ':listeners', tenant)
end

-- Nothing more goes to an endpoint until it is enabled again; what waits goes on waiting, as long as it is kept.
local function disable(endpoint, why)
  local tenant = call('HGET', record_of(endpoint), 'tenant')
  if not tenant then return end
  call('HSET', record_of(endpoint), 'enabled', 0, 'why', why, 'disabled', now_text)
  call('HSET', lane_key(endpoint), 'off', 1)
  refresh_listener(tenant)
end
