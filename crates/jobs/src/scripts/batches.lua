-- A batch is one entry in the queue of its tenant. Its children are job records; those that wait for their turn stand
-- in `pend`, and become runs when the entry yields them.

local function batch_entry_gone(batch)
  local pending = call('LLEN', key('pend', batch))
  if pending > 0 then
    call('HINCRBY', SCHED, 'ready', -pending)
    call('UNLINK', key('pend', batch))
  end
  displace_entry(call('HGET', key('batch', batch), 'place'), 'b' .. batch)
end

-- No further child starts, and `close` cancels those that have not ended, in chunks.
local function stop_batch(batch, why)
  call('HSET', key('batch', batch), 'state', 'stopping', 'why', why)
  batch_entry_gone(batch)
  call('ZADD', CLOSING, now, batch)
  emit('job', batch, 'state', 'stopping')
end

local function finish_batch(batch)
  local record = key('batch', batch)
  local names = { 'total', 'succeeded', 'failed', 'dead', 'expired', 'cancelled', 'cached' }
  local values, summary, counts = call('HMGET', record, unpack(names)), {}, {}
  for i, name in ipairs(names) do
    counts[name] = tonumber(values[i] or 0)
    summary[i] = '"' .. name .. '":' .. counts[name]
  end
  local why = call('HGET', record, 'why')
  local lost = counts.failed + counts.dead + counts.expired
  local state, fields = 'succeeded', { 'found', '{' .. table.concat(summary, ',') .. '}' }
  if why == 'cancelled' then
    state = 'cancelled'
  elseif lost > 0 then
    state = 'failed'
    fields[3] = 'error'
    fields[4] = '{"code":"batch_incomplete","message":"' .. lost .. ' of ' .. counts.total .. ' jobs did not succeed'
      .. (why == 'failure' and ', so the rest was cancelled as asked' or '; the results of the others are there') .. '"}'
  end
  call('HSET', record, 'state', 'ended')
  for _, kind in ipairs({ 'items', 'pend', 'plans' }) do call('UNLINK', key(kind, batch)) end
  call('EXPIRE', record, KEEP_S)
  call('EXPIRE', key('kids', batch), KEEP_S)
  call('ZREM', CLOSING, batch)
  transition(batch, state, '- ' .. now .. ' -', unpack(fields))
end

child_ended = function(batch, to)
  local record = key('batch', batch)
  call('HINCRBY', record, to, 1)
  if to ~= 'succeeded' and to ~= 'cancelled' then
    local policy = call('HMGET', record, 'on_failure', 'state')
    if policy[1] == 'stop' and policy[2] == 'open' then stop_batch(batch, 'failure') end
  end
  if call('HINCRBY', record, 'left', -1) == 0 then finish_batch(batch) end
end
