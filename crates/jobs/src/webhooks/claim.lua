-- Takes deliveries that are due, each under a lease: who takes one and dies leaves it to others when that ends.
-- ARGV: prefix, keep, how many at most, lease in ms, width of a lane, how long a delivery is kept that has not ended (ms)
-- Returns {milliseconds until something is due or -1, {id, claim, endpoint, tenant, message, event, at, url, tries, created,
-- secret, older secrets}, ...}; `older secrets` are lines '<valid until> <secret>'.
local most, lease_ms, width, kept_ms = tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])
local lanes = call('ZRANGEBYSCORE', P .. ':lanes', '-inf', exactly(instant), 'LIMIT', 0, CHUNK)
local share, answer, about = math.max(1, math.floor(most / math.max(1, #lanes))), {}, {}

local function secrets_of(endpoint)
  local known = about[endpoint] or call('HMGET', record_of(endpoint), 'url', 'secret', 'old', 'tenant')
  about[endpoint] = known
  return known
end

-- What others took and did not hand in is due again.
local function take_back(lane)
  for _, id in ipairs(call('ZRANGEBYSCORE', flying_key(lane), '-inf', now_text, 'LIMIT', 0, CHUNK)) do
    call('ZREM', flying_key(lane), id)
    put_in_lane(lane, id, now, kept_ms)
    count('webhooks_lost')
  end
end

local function take(lane, id)
  call('ZREM', due_key(lane), id)
  local d = call('HMGET', key('delivery', id), 'endpoint', 'tenant', 'message', 'event', 'at', 'url', 'tries', 'created')
  if not d[1] then return end
  local endpoint = secrets_of(d[1])
  if not endpoint[4] and not d[6] then return end -- the endpoint was deleted
  local claim = call('HINCRBY', key('delivery', id), 'claim', 1)
  call('ZADD', flying_key(lane), text(now + lease_ms), id)
  call('PEXPIRE', flying_key(lane), kept_ms)
  answer[#answer + 1] = { id, text(claim), d[1], d[2], d[3], d[4], d[5], d[6] or endpoint[1], d[7], d[8], endpoint[2] or '',
    endpoint[3] or '' }
end

for _, lane in ipairs(lanes) do
  if #answer == most then break end -- the others keep their place
  take_back(lane)
  local state = call('HMGET', lane_key(lane), 'failures', 'hold', 'off')
  local free = math.min(share, most - #answer, width_of(width, state[1]) - call('ZCARD', flying_key(lane)))
  if free > 0 and not state[3] and (tonumber(state[2]) or 0) <= now then
    for _, id in ipairs(call('ZRANGEBYSCORE', due_key(lane), '-inf', now_text, 'LIMIT', 0, free)) do take(lane, id) end
  end
  touch(lane, width, true)
end
flush()
local next_due = tonumber(call('ZRANGE', P .. ':lanes', 0, 0, 'WITHSCORES')[2])
return { next_due and math.max(0, next_due - now) or -1, answer }
