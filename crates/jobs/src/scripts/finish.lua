-- Takes the outcome of a run from the worker that holds it, and settles the first of its jobs.
-- ARGV: prefix, keep, run, fence, 'succeeded', result id, summary (JSON), receipt (JSON, one line)
--       prefix, keep, run, fence, 'failed', error (JSON), '1' if worth another attempt, back-off in ms, '1' on a time-out
--       prefix, keep, run, fence, 'cancelled'
-- Returns {'accepted' | 'retry' | 'refused', jobs left to settle}; refused when the caller no longer holds the run.
local run, fence, outcome = ARGV[3], ARGV[4], ARGV[5]
local record = held_run(run, fence)
if not record then
  -- The answer to the caller's own earlier try was lost.
  if call('GET', key('done', run)) == fence then return { 'accepted', call('SCARD', key('waiters', run)) } end
  count('late_results')
  return { 'refused', 0 }
end
take_from_worker(run, record)

if outcome == 'failed' and not record.cancel then
  local limits = call('HMGET', key('run', run), 'given', 'wall')
  -- It ran out of the time that its first job gave it; another that joined since gives it more.
  if ARGV[9] == '1' and tonumber(limits[1]) < tonumber(limits[2]) then
    call('HDEL', key('run', run), 'fence', 'progress')
    enqueue(run, record.places, record.seq)
    return { 'retry', 0 }
  end
  local attempt = call('HINCRBY', key('run', run), 'attempt', 1)
  if ARGV[7] == '1' and attempt < tonumber(call('HGET', key('run', run), 'max')) then
    call('HSET', key('run', run), 'state', 'scheduled')
    call('HDEL', key('run', run), 'fence', 'progress')
    call('ZADD', P .. ':delayed', now + ARGV[8], run)
    emit('run', run, 'scheduled')
    count('retries')
    return { 'retry', 0 }
  end
end

call('SET', key('done', run), fence, 'EX', DONE_KEPT_S)
if outcome == 'succeeded' then
  local result = ARGV[6]
  call('SET', key('result', result), VERSION .. ' ' .. now .. '\n' .. ARGV[8] .. '\n' .. ARGV[7], 'EX', kept('results'))
  return { 'accepted', conclude(run, record, 'succeeded', result, ARGV[7]) }
elseif outcome == 'cancelled' then
  return { 'accepted', conclude(run, record, 'cancelled') }
end
return { 'accepted', conclude(run, record, ARGV[7] == '1' and 'dead' or 'failed', nil, nil, ARGV[6]) }
