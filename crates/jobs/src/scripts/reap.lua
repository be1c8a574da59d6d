-- The reconciler's script: runs whose lease is over go back to the queue (or are given up), what is due is queued or
-- expired, and what others must do in chunks is named.
-- ARGV: prefix, keep, error of runs that are given up (JSON)
-- Returns {{run, 'stalled' | 'dead' | 'cancelled', worker}, ...}, {run to settle, ...}, {batch to open, ...},
--         {batch to close, ...}, 1 when there was more than one chunk of anything
local lost, more = {}, 0
local function due(set)
  local found = call('ZRANGEBYSCORE', set, '-inf', now, 'LIMIT', 0, CHUNK)
  if #found == CHUNK then more = 1 end
  return found
end

-- Those of these runs that there are. That one is missing cannot happen while Redis keeps its data; if it does, it must not keep the
-- others from their turn.
local function existing(set, ids)
  read_runs(ids)
  local found = {}
  for _, run in ipairs(ids) do
    if run_of(run) then found[#found + 1] = run else call('ZREM', set, run) end
  end
  return found
end

-- Each reconciler beats about once a second. Was nobody heard for a while, then Redis was away (or everybody was), and
-- no worker could renew: all get the length of a lease to do so before anything is taken from them.
local beat = tonumber(call('GET', P .. ':beat') or now)
if now - beat > GAP_MS or now < beat then
  call('SET', P .. ':calm', now, 'PX', LEASE_MS)
  count('gaps')
end
call('SET', P .. ':beat', now)

if call('EXISTS', P .. ':calm') == 0 then
  for _, run in ipairs(existing(P .. ':leases', due(P .. ':leases'))) do
    local record = run_of(run)
    local started = take_from_worker(run, record, true)
    -- The fence stays: until another worker claims the run, the first may still turn out to be only late.
    set_field(record, 'progress', nil)
    local stalls = increase(record, 'stalls')
    count('stalls')
    local action = 'stalled'
    if record.more.cancel then
      action = 'cancelled'
      conclude(run, record, started, 'cancelled')
    elseif stalls >= STALLS_TOLERATED then
      action = 'dead'
      conclude(run, record, started, 'dead', nil, nil, ARGV[3])
    elseif stalls == STALLS_TOLERATED - 1 then
      set_state(record, 'queued')
      call('ZADD', P .. ':alone', record.seq, run)
      add(P .. ':sched', 'ready', 1)
      emit('run', run, 'queued')
      wake()
    else
      enqueue(run, record)
      emit('run', run, 'queued')
    end
    local _, worker = given_and_worker(record)
    lost[#lost + 1] = { run, action, worker }
  end
end
for _, run in ipairs(existing(P .. ':delayed', due(P .. ':delayed'))) do
  local record = run_of(run)
  call('ZREM', P .. ':delayed', run)
  set_field(record, 'starts', nil)
  enqueue(run, record)
  emit('run', run, 'queued')
end
for _, id in ipairs(due(P .. ':deadlines')) do
  call('ZREM', P .. ':deadlines', id)
  local _, _, run = parse_state(job_of(id))
  local record = run and run ~= '-' and run_of(run)
  -- A deadline is for the start: a run that waits for its children has been started.
  if not record or not (record.more.awaits or record.state == 'running') then withdraw(id, 'expired') end
end
flush_all()
call('ZREMRANGEBYSCORE', P .. ':idle', '-inf', now - 60000)
return { lost, due(P .. ':settling'), due(P .. ':opening'), due(P .. ':closing'), more }
