-- Runs: the jobs that wait for one, its places in the queue, its end.

local function each_place(places, does)
  for place in string.gmatch(places, '[^\n]+') do does(place) end
end

-- Puts a run into the queue; with its old `seq` it keeps its old place, so that what was interrupted is next.
local function enqueue(run, places, seq)
  seq = seq or next_seq()
  call('HSET', key('run', run), 'state', 'queued', 'seq', seq)
  each_place(places, function(place) place_entry(place, 'r' .. run, seq) end)
  call('HINCRBY', SCHED, 'ready', 1)
  wake()
end

-- Takes a queued or scheduled run out of wherever it waits.
local function dequeue(run, state, places)
  if state == 'queued' then
    each_place(places, function(place) displace_entry(place, 'r' .. run) end)
    call('ZREM', ALONE, run)
    call('ZREM', NEWER, run)
    call('HINCRBY', SCHED, 'ready', -1)
  elseif state == 'scheduled' then
    call('ZREM', DELAYED, run)
  end
end

-- One waiting job is a field of the run, several are a set: nearly always it is one.
local function add_waiter(run, id)
  local waiting = call('HINCRBY', key('run', run), 'jobs', 1)
  if waiting == 1 then
    call('HSET', key('run', run), 'job', id)
  elseif waiting == 2 then
    call('SADD', key('waiters', run), call('HGET', key('run', run), 'job'), id)
    call('HDEL', key('run', run), 'job')
  else
    call('SADD', key('waiters', run), id)
  end
end

local function remove_waiter(run, id)
  if call('HGET', key('run', run), 'job') == id then
    call('HDEL', key('run', run), 'job')
  elseif call('SREM', key('waiters', run), id) == 0 then
    return 1 -- it is being settled
  end
  return call('HINCRBY', key('run', run), 'jobs', -1)
end

-- Nobody can join the run any more.
local function close_flight(run, flight)
  if flight and call('GET', key('flight', flight)) == run then call('DEL', key('flight', flight)) end
end

-- Gives a bounded number of the jobs that wait for a finished run its outcome; drops the run when none is left.
local function settle(run, most)
  local outcome = call('HMGET', key('run', run), 'outcome', 'result', 'found', 'error', 'started', 'finished', 'job')
  if not outcome[1] then
    call('ZREM', SETTLING, run)
    return 0
  end
  local jobs = outcome[7] and { outcome[7] } or call('SPOP', key('waiters', run), most)
  local ended = (outcome[5] or '-') .. ' ' .. outcome[6] .. ' ' .. (outcome[2] or '-')
  for _, id in ipairs(jobs) do
    if outcome[1] == 'succeeded' then
      transition(id, 'succeeded', ended, 'found', outcome[3])
    elseif outcome[4] then
      transition(id, outcome[1], ended, 'error', outcome[4])
    else
      transition(id, outcome[1], ended)
    end
  end
  local left = outcome[7] and 0 or call('SCARD', key('waiters', run))
  if left == 0 then
    call('ZREM', SETTLING, run)
    call('DEL', key('run', run))
  else
    call('ZADD', SETTLING, now, run)
  end
  return left
end

-- Fixes the outcome of a run that stands nowhere any more. Further fields are what its jobs will get.
local function conclude(run, flight, outcome, ...)
  close_flight(run, flight)
  call('HSET', key('run', run), 'state', 'finished', 'outcome', outcome, 'finished', now, ...)
  call('HDEL', key('run', run), 'plan', 'req')
  return settle(run, CHUNK)
end

-- A running run leaves its worker: its lease ends and its tenant gets the slot back.
local function take_from_worker(run, record)
  call('ZREM', LEASES, run)
  discharge(record.by, record.estimate, record.started)
end

local RUN_FIELDS = { 'state', 'fence', 'flight', 'places', 'seq', 'by', 'estimate', 'started', 'worker', 'cancel' }
local function read_run(run)
  local values, record = call('HMGET', key('run', run), unpack(RUN_FIELDS)), {}
  for i, name in ipairs(RUN_FIELDS) do record[name] = values[i] end
  return record
end

-- The record of a run if the caller holds it. One that was given up on but that nobody else took yet is held again:
-- the worker was not dead, only late.
local function held_run(run, fence)
  local record = read_run(run)
  if record.fence ~= fence then return nil end
  if record.state == 'queued' then
    dequeue(run, 'queued', record.places)
    call('HSET', key('run', run), 'state', 'running')
    call('ZADD', LEASES, now + LEASE_MS, run)
    local _, tenant = split_place(record.by)
    call('HINCRBY', key('tenant', tenant), 'running', 1)
    record.state = 'running'
  end
  return record.state == 'running' and record or nil
end

-- One job does not wait any more: it was cancelled, or its deadline passed. The run goes on while another waits.
local function withdraw(id, to)
  local run = call('HGET', key('job', id), 'run')
  if not transition(id, to, '- ' .. now .. ' -') then return end
  if not run or remove_waiter(run, id) > 0 then return end
  local record = read_run(run)
  close_flight(run, record.flight)
  if record.state == 'running' then
    call('HSET', key('run', run), 'cancel', 1)
    -- The worker would hear of it at its next renewal; this makes it renew now.
    call('LPUSH', key('inbox', record.worker), 'stop')
    call('EXPIRE', key('inbox', record.worker), 60)
    emit('run', run, 'state', 'cancelling')
  elseif record.state == 'queued' or record.state == 'scheduled' then
    dequeue(run, record.state, record.places)
    call('DEL', key('run', run))
  end
end
