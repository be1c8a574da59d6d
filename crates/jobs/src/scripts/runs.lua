-- Runs: the jobs that wait for one, its places in the queue, its end.

-- Takes a queued or scheduled run out of wherever it waits.
local function dequeue(run, state, wants)
  if state == 'queued' then
    each_place(wants, function(place) displace_entry(place, 'r' .. run) end)
    call('ZREM', P .. ':alone', run)
    call('ZREM', P .. ':newer', run)
    add(P .. ':sched', 'ready', -1)
  elseif state == 'scheduled' then
    call('ZREM', P .. ':delayed', run)
  end
end

local function remove_waiter(run, record, id)
  if string.match(record.waiter, '^%S+') == id then
    record.waiter = '-'
    set_state(run, record, record.state)
    return 0
  end
  -- What is being settled is in the set no more.
  return call('SREM', key('waiters', run), id) == 0 and 1 or call('SCARD', key('waiters', run))
end

local function end_job(id, outcome, ended, found, error, seq, tail)
  if outcome == 'succeeded' then
    transition(id, outcome, ended, 'found', found, seq, tail)
  else
    transition(id, outcome, ended, error and 'error', error, seq, tail)
  end
end

-- Gives a bounded number of the jobs that wait for a finished run its outcome; drops the run when none is left.
local function settle(run)
  local outcome = call('HMGET', key('run', run), 'outcome', 'ended', 'found', 'error')
  if not outcome[1] then
    call('ZREM', P .. ':settling', run)
    return 0
  end
  for _, id in ipairs(call('SPOP', key('waiters', run), CHUNK)) do
    end_job(id, outcome[1], outcome[2], outcome[3] or nil, outcome[4] or nil)
  end
  local left = call('SCARD', key('waiters', run))
  if left == 0 then
    call('ZREM', P .. ':settling', run)
    call('DEL', key('run', run))
  end
  return left
end

-- A run that is being cancelled has lost its flight already, perhaps to another; one that is stale may have.
local function has_flight(run, record)
  return not record.cancel and (not record.stale or call('GET', key('flight', record.flight)) == run)
end

-- Nobody can join the run any more.
local function close_flight(run, record)
  if has_flight(run, record) then call('DEL', key('flight', record.flight)) end
end

-- Fixes the outcome of a run that stands nowhere any more. Returns how many jobs are left to settle.
local function conclude(run, record, outcome, result, found, error)
  local ended = (record.started or '-') .. ' ' .. now_text .. ' ' .. (result or '-')
  if record.waiter ~= '-' then
    local job = string.match(record.waiter, '^%S+')
    end_job(job, outcome, ended, found, error, record.seq, string.sub(record.waiter, #job + 2))
    drop(key('run', run))
    if has_flight(run, record) then drop(key('flight', record.flight)) end
    return 0
  end
  close_flight(run, record)
  call('HSET', key('run', run), 'state', 'finished - -', 'outcome', outcome, 'ended', ended)
  if found or error then call('HSET', key('run', run), found and 'found' or 'error', found or error) end
  call('HDEL', key('run', run), 'plan')
  call('ZADD', P .. ':settling', now, run)
  return settle(run)
end

-- A running run leaves its worker: its lease ends and its tenant gets the slot back.
local function take_from_worker(run, record)
  leave_set(P .. ':leases', run)
  discharge(record.by, record.estimate, record.started)
end

-- `claim` is three lines: fence, worker, '<estimate> <started> <time-out> <place>'.
local function read_run(run)
  local r = call('HMGET', key('run', run), 'state', 'terms', 'claim', 'cancel', 'stale')
  if not r[1] then return {} end
  local state, seq, waiter = split3(r[1], ' ')
  local _, call_and_flight, wants = split3(r[2], '\n')
  local fence, worker, charged, estimate, started, given, by
  if r[3] then
    fence, worker, charged = split3(r[3], '\n')
    estimate, started, given, by = string.match(charged, '^(%S+) (%S+) (%S+) (.*)$')
  end
  return {
    state = state, seq = seq, waiter = waiter, fence = fence, flight = string.sub(call_and_flight, 33), wants = wants, by = by,
    estimate = tonumber(estimate or 0), started = started, given = given, worker = worker, cancel = r[4],
    stale = r[5],
  }
end

-- The record of a run if the caller holds it. One that was given up on but that nobody else took yet is held again:
-- the worker was not dead, only late.
local function held_run(run, fence)
  local record = read_run(run)
  if not record.fence or record.fence ~= fence then return nil end
  if record.state == 'queued' then
    dequeue(run, 'queued', record.wants)
    set_state(run, record, 'running')
    call('ZADD', P .. ':leases', now + LEASE_MS, run)
    local _, tenant = split_place(record.by)
    add(key('tenant', tenant), 'running', 1)
  end
  return record.state == 'running' and record or nil
end

-- Nobody waits for what a run wanted its children for.
local function abandon(batch)
  if call('HGET', key('batch', batch), 'state') == 'open' then stop_batch(batch, 'cancelled') end
end

-- One job does not wait any more: it was cancelled, or its deadline passed. The run goes on while another waits.
local function withdraw(id, to)
  local _, _, run = parse_state(call('HGET', key('job', id), 'state'))
  if not transition(id, to, '- ' .. now_text .. ' -') then return end
  local record = run ~= '-' and read_run(run) or {}
  if not record.state or remove_waiter(run, record, id) > 0 then return end
  if record.state == 'running' then
    close_flight(run, record)
    call('HSET', key('run', run), 'cancel', 1)
    -- The worker would hear of it at its next renewal; this makes it renew now.
    call('LPUSH', key('inbox', record.worker), 'stop')
    call('EXPIRE', key('inbox', record.worker), 60)
    emit('run', run, 'cancelling')
  elseif record.state == 'queued' or record.state == 'scheduled' then
    close_flight(run, record)
    dequeue(run, record.state, record.wants)
    call('DEL', key('run', run))
  elseif record.state == 'waiting' then
    close_flight(run, record)
    abandon(call('HGET', key('run', run), 'awaits'))
    call('DEL', key('run', run))
  end
end

-- What every script that ends jobs or runs does at its end.
local function flush_all()
  flush_charges()
  flush_batches()
  flush()
end
