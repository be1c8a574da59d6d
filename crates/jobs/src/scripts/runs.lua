-- Runs: the jobs that wait for one, its places in the queue, its end.

-- Takes a queued or scheduled run out of wherever it waits.
local function dequeue(run, record)
  if record.state == 'queued' then
    each_place(wants_of(record), function(place) displace_entry(place, 'r' .. run) end)
    call('ZREM', P .. ':alone', run)
    call('ZREM', P .. ':newer', run)
    add(P .. ':sched', 'ready', -1)
  elseif record.state == 'scheduled' then
    call('ZREM', P .. ':delayed', run)
  end
end

local function remove_waiter(run, record, id)
  if record.waiter == id then
    record.waiter, record.changed = '-', true
    return 0
  end
  -- What is being settled is in the set no more.
  return call('SREM', key('waiters', run), id) == 0 and 1 or call('SCARD', key('waiters', run))
end

-- Gives a bounded number of the jobs that wait for a finished run its outcome; drops the run when none is left.
local function settle(run)
  local record = run_of(run)
  if not record or not record.more.outcome then
    call('ZREM', P .. ':settling', run)
    return 0
  end
  local more, waiting = record.more, call('SPOP', key('waiters', run), CHUNK)
  read_jobs(waiting)
  for _, id in ipairs(waiting) do transition(id, more.outcome, more.ended, more.found, more.error) end
  local left = call('SCARD', key('waiters', run))
  if left == 0 then
    call('ZREM', P .. ':settling', run)
    drop_run(run, record)
  end
  return left
end

-- A run that is being cancelled has lost its flight already, perhaps to another; one that is stale may have.
local function has_flight(run, record)
  local more = record.more
  return not more.cancel and (not more.stale or call('GET', key('flight', flight_of(record))) == run)
end

-- Nobody can join the run any more.
local function close_flight(run, record)
  if has_flight(run, record) then call('DEL', key('flight', flight_of(record))) end
end

-- Fixes the outcome of a run that stands nowhere any more. Returns how many jobs are left to settle.
local function conclude(run, record, started, outcome, result, found, error)
  local ended = (started or '-') .. ' ' .. now_text .. ' ' .. (result or '-')
  if record.waiter ~= '-' then
    transition(record.waiter, outcome, ended, found, error)
    if has_flight(run, record) then drop(P .. ':flight:' .. flight_of(record)) end
    drop_run(run, record)
    return 0
  end
  close_flight(run, record)
  set_plan(run, record, '')
  record.state, record.seq = 'finished', '-'
  set_field(record, 'outcome', outcome)
  set_field(record, 'ended', ended)
  set_field(record, 'found', found)
  set_field(record, 'error', error)
  call('ZADD', P .. ':settling', now, run)
  return settle(run)
end

-- A running run leaves its worker: its lease ends and its tenant gets the slot back. Answers when it was claimed, and for which place.
-- How long one took that is `unfinished` says nothing about how long runs take.
local function take_from_worker(run, record, unfinished)
  local started, by, estimate = claim_of(record)
  leave_set(P .. ':leases', run)
  discharge(by, estimate, started, unfinished)
  return started, by
end

-- The record of a run if the caller holds it. One that was given up on but that nobody else took yet is held again:
-- the worker was not dead, only late.
local function held_run(run, fence)
  local record = run_of(run)
  if not record or not is_claimed_by(record, fence) then return nil end
  if record.state == 'queued' then
    dequeue(run, record)
    set_state(record, 'running')
    call('ZADD', P .. ':leases', now + LEASE_MS, run)
    local _, by = claim_of(record)
    local _, tenant = split_place(by)
    add(key('tenant', tenant), 'running', 1)
  end
  return record.state == 'running' and record or nil
end

-- A run has been taken from its worker, who is not to be believed any more.
local function forget_claim(record)
  set_field(record, 'progress', nil)
  record.claim = ''
end

-- Nobody waits for what a run wanted its children for.
local function abandon(batch)
  if call('HGET', key('batch', batch), 'state') == 'open' then stop_batch(batch, 'cancelled') end
end

-- One job does not wait any more: it was cancelled, or its deadline passed. The run goes on while another waits.
local function withdraw(id, to)
  local _, _, run = parse_state(job_of(id))
  if not transition(id, to, '- ' .. now_text .. ' -') then return end
  local record = run ~= '-' and run_of(run)
  if not record or remove_waiter(run, record, id) > 0 then return end
  if record.state == 'running' then
    local _, worker = given_and_worker(record)
    close_flight(run, record)
    set_field(record, 'cancel', '1')
    -- The worker would hear of it at its next renewal; this makes it renew now.
    call('LPUSH', key('inbox', worker), 'stop')
    call('EXPIRE', key('inbox', worker), 60)
    emit('run', run, 'cancelling')
  elseif record.state == 'queued' or record.state == 'scheduled' then
    close_flight(run, record)
    dequeue(run, record)
    drop_run(run, record)
  elseif record.state == 'waiting' then
    close_flight(run, record)
    abandon(record.more.awaits)
    drop_run(run, record)
  end
end

-- What every script that ends jobs or runs does at its end.
local function flush_all()
  flush_charges()
  flush_batches()
  flush()
end
