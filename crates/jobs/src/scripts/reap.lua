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

-- Each reconciler beats about once a second. Was nobody heard for a while, then Redis was away (or everybody was), and
-- no worker could renew: all get the length of a lease to do so before anything is taken from them.
local beat = tonumber(call('GET', P .. ':beat') or now)
if now - beat > GAP_MS or now < beat then
  call('SET', P .. ':calm', now, 'PX', LEASE_MS)
  count('gaps')
end
call('SET', P .. ':beat', now)

if call('EXISTS', P .. ':calm') == 0 then
  for _, run in ipairs(due(P .. ':leases')) do
    local record = read_run(run)
    take_from_worker(run, record)
    -- The fence stays: until another worker claims the run, the first may still turn out to be only late.
    call('HDEL', key('run', run), 'progress')
    local stalls = call('HINCRBY', key('run', run), 'stalls', 1)
    count('stalls')
    local action = 'stalled'
    if record.cancel then
      action = 'cancelled'
      conclude(run, record, 'cancelled')
    elseif stalls >= STALLS_TOLERATED then
      action = 'dead'
      conclude(run, record, 'dead', nil, nil, ARGV[3])
    elseif stalls == STALLS_TOLERATED - 1 then
      set_state(run, record, 'queued')
      call('ZADD', P .. ':alone', record.seq, run)
      add(P .. ':sched', 'ready', 1)
      emit('run', run, 'queued')
      wake()
    else
      enqueue(run, record)
      emit('run', run, 'queued')
    end
    lost[#lost + 1] = { run, action, record.worker or '' }
  end
end
for _, run in ipairs(due(P .. ':delayed')) do
  local record = read_run(run)
  call('ZREM', P .. ':delayed', run)
  call('HDEL', key('run', run), 'starts')
  enqueue(run, record)
  emit('run', run, 'queued')
end
for _, id in ipairs(due(P .. ':deadlines')) do
  call('ZREM', P .. ':deadlines', id)
  local _, _, run = parse_state(call('HGET', key('job', id), 'state'))
  local found = run and run ~= '-' and call('HMGET', key('run', run), 'state', 'awaits') or {}
  -- A deadline is for the start: a run that waits for its children has been started.
  if not found[2] and not (found[1] and string.match(found[1], '^running')) then withdraw(id, 'expired') end
end
flush_all()
call('ZREMRANGEBYSCORE', P .. ':idle', '-inf', now - 60000)
return { lost, due(P .. ':settling'), due(P .. ':opening'), due(P .. ':closing'), more }
