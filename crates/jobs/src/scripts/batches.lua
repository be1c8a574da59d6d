-- A batch is one entry in the queue of its tenant. Its children are job records; those that wait for their turn stand
-- in `pend`, and become runs when the entry yields them.

-- No further child starts, and `close` cancels those that have not ended, in chunks.
local function stop_batch(batch, why)
  local record = key('batch', batch)
  call('HSET', record, 'state', 'stopping', 'why', why)
  local pending = call('LLEN', key('pend', batch))
  if pending > 0 then
    add(P .. ':sched', 'ready', -pending)
    call('UNLINK', key('pend', batch))
  end
  displace_entry(call('HGET', record, 'place'), 'b' .. batch)
  call('ZADD', P .. ':closing', now, batch)
  emit('job', batch, 'stopping')
end

-- A run that waited for a batch goes on: it is queued again at its old place.
local function resume(run)
  local record = run_of(run)
  if not record or record.state ~= 'waiting' then return end
  enqueue(run, record)
  emit('run', run, 'queued')
end

local function finish_batch(batch)
  local record = key('batch', batch)
  local names = { 'total', 'succeeded', 'failed', 'dead', 'expired', 'cancelled', 'cached' }
  local values, summary, counts = call('HMGET', record, unpack(names)), {}, {}
  for i, name in ipairs(names) do
    counts[name] = tonumber(values[i] or 0)
    summary[i] = '"' .. name .. '":' .. counts[name]
  end
  local why, parent = unpack(call('HMGET', record, 'why', 'parent'))
  local lost = counts.failed + counts.dead + counts.expired
  local state = (why == 'cancelled' and why) or (lost > 0 and 'failed') or 'succeeded'
  call('HSET', record, 'state', 'ended')
  call('UNLINK', key('items', batch), key('pend', batch), key('plans', batch), key('pins', batch))
  call('EXPIRE', record, kept_jobs)
  call('EXPIRE', key('kids', batch), kept_jobs)
  call('ZREM', P .. ':closing', batch)
  call('ZREM', P .. ':open', batch)
  local error
  if state == 'failed' then
    error = '{"code":"batch_incomplete","message":"' .. lost .. ' of ' .. counts.total .. ' jobs did not succeed'
      .. (why == 'failure' and ', so the rest was cancelled as asked' or '; the results of the others are there') .. '"}'
  end
  transition(batch, state, '- ' .. now_text .. ' -', '{' .. table.concat(summary, ',') .. '}', error)
  if parent then resume(parent) end
end

local ended = {} -- children of each batch, in this call
local pinned = {} -- results that they used

child_ended = function(batch, to, how)
  local record = key('batch', batch)
  ended[batch] = (ended[batch] or 0) + 1
  add(record, to, 1)
  if to == 'succeeded' then
    local results = pinned[batch] or {}
    pinned[batch] = results
    results[#results + 1] = string.match(how, '^%S+ %S+ (%S+)')
  end
  if to ~= 'succeeded' and to ~= 'cancelled' then
    local policy = call('HMGET', record, 'on_failure', 'state')
    if policy[1] == 'stop' and policy[2] == 'open' then stop_batch(batch, 'failure') end
  end
end

-- Ends the batches whose last child has ended.
local function flush_batches()
  if not next(ended) then return end
  flush_sums()
  for batch, number in pairs(ended) do
    if call('HINCRBY', key('batch', batch), 'left', -number) == 0 then
      finish_batch(batch)
    elseif pinned[batch] then
      in_parts('SADD', key('pins', batch), pinned[batch])
    end
  end
  ended, pinned = {}, {}
end
