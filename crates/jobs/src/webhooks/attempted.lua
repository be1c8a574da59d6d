-- Takes what an attempt came to. Only the last to claim a delivery may say so.
-- ARGV: prefix, keep, delivery, claim, outcome (delivered | retry | failed | gone), ms until the next attempt, ms for which the
--       receiver wants to be left alone (0: not), the attempt (JSON, one line), attempts kept, ms that an ended delivery is
--       kept, that one is kept that has not ended, failures in a row and ms of failing that disable an endpoint, width of a lane
-- Returns 'taken', 'disabled' when the endpoint was disabled by it, or 'late' when somebody else has the delivery.
local id, claim, outcome = ARGV[3], ARGV[4], ARGV[5]
local delay, hold, attempt, attempts_kept = tonumber(ARGV[6]), tonumber(ARGV[7]), ARGV[8], tonumber(ARGV[9])
local kept_ms, pending_ms, most_failures, most_failing, width =
  tonumber(ARGV[10]), tonumber(ARGV[11]), tonumber(ARGV[12]), tonumber(ARGV[13]), tonumber(ARGV[14])
local record = key('delivery', id)
local d = call('HMGET', record, 'claim', 'lane', 'endpoint', 'log', 'event', 'state')
if d[1] ~= claim or d[6] ~= 'pending' then return 'late' end
local lane, endpoint = d[2], d[3]
local health = lane_key(lane)
call('ZREM', flying_key(lane), id)
call('ZREM', due_key(lane), id) -- its lease had ended, but nobody took it yet

local lines = {}
for line in string.gmatch(d[4] or '', '[^\n]+') do lines[#lines + 1] = line end
lines[#lines + 1] = attempt
local log = table.concat(lines, '\n', math.max(1, #lines - attempts_kept + 1))
call('HSET', record, 'log', log)
call('HINCRBY', record, 'tries', 1)

local answer, is_test = 'taken', d[5] == 'webhook.test'
local function ended(state)
  call('HSET', record, 'state', state, 'ended', now_text)
  call('PEXPIRE', record, kept_ms)
  if state == 'failed' and not is_test then
    call('ZADD', key('undelivered', endpoint), now_text, id)
    call('PEXPIRE', key('undelivered', endpoint), pending_ms)
  else
    call('ZREM', key('undelivered', endpoint), id)
  end
end

if outcome == 'delivered' then
  ended('delivered')
  call('HDEL', health, 'failures', 'since', 'hold')
  count('webhooks_delivered')
else
  if outcome == 'retry' then
    put_in_lane(lane, id, now + delay, pending_ms)
    count('webhooks_retried')
  else
    ended('failed')
    count('webhooks_failed')
  end
  if not is_test then
    local failures = call('HINCRBY', health, 'failures', 1)
    call('HSETNX', health, 'since', now_text)
    local since = tonumber(call('HGET', health, 'since'))
    if hold > 0 then call('HSET', health, 'hold', text(now + hold)) end
    local why = (outcome == 'gone' and 'gone') or (failures >= most_failures and now - since >= most_failing and 'failing')
    if why and endpoint == lane and call('HGET', record_of(endpoint), 'enabled') == '1' then
      disable(endpoint, why)
      count('webhooks_disabled')
      answer = 'disabled'
    end
  end
end
if call('EXISTS', health) == 1 then call('PEXPIRE', health, pending_ms) end
if call('HEXISTS', health, 'off') == 1 then call('PERSIST', health) end
touch(lane, width)
flush()
return answer
