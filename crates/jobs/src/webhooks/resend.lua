-- Sends deliveries once more that have ended; one that waits for its next attempt gets it now.
-- ARGV: prefix, keep, tenant, endpoint, ms that a delivery is kept that has not ended, width, what:
--   'one', delivery
--   'range', since (ms), until (ms), 1 for those alone that were given up, how many at most, how many to pass over
-- Returns {how many, how many to pass over next time or -1} or nil when there is no such endpoint or delivery.
local tenant, endpoint, kept_ms, width, what = ARGV[3], ARGV[4], tonumber(ARGV[5]), tonumber(ARGV[6]), ARGV[7]
if call('HGET', record_of(endpoint), 'tenant') ~= tenant then return false end
local lanes = {}

local function resend(id)
  local record = key('delivery', id)
  local d = call('HMGET', record, 'endpoint', 'lane', 'state')
  if d[1] ~= endpoint then return false end
  if call('ZSCORE', flying_key(d[2]), id) then return true end -- just now
  if d[3] ~= 'pending' then
    call('HSET', record, 'state', 'pending', 'tries', 0)
    call('HDEL', record, 'ended')
  end
  call('PEXPIRE', record, kept_ms)
  call('ZREM', key('undelivered', endpoint), id)
  put_in_lane(d[2], id, now, kept_ms)
  lanes[d[2]] = true
  count('webhooks_resent')
  return true
end

local sent, on = 0, -1
if what == 'one' then
  if not resend(ARGV[8]) then return false end
  sent = 1
else
  -- Those that were given up leave their index when they are sent again.
  local failed, most = ARGV[10] == '1', tonumber(ARGV[11])
  local index, offset = key(failed and 'undelivered' or 'log', endpoint), failed and 0 or tonumber(ARGV[12])
  local found = call('ZRANGEBYSCORE', index, ARGV[8], ARGV[9], 'LIMIT', offset, most)
  for _, id in ipairs(found) do
    if resend(id) then sent = sent + 1 elseif failed then call('ZREM', index, id) end
  end
  if #found == most then on = offset + most end
end
for lane in pairs(lanes) do
  call('HDEL', lane_key(lane), 'hold')
  touch(lane, width)
end
nudge()
flush()
return { sent, on }
