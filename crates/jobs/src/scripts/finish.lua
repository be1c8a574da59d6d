-- Takes the outcomes of runs from the worker that holds them, and settles the first of their jobs.
-- ARGV: prefix, keep, and for each run 7 of: run, fence, then
--       'succeeded', result id, summary (JSON), receipt (JSON, one line), ''
--       'failed', error (JSON), '1' if worth another attempt, back-off in ms, '1' on a time-out
--       'awaits', a batch, '<plan>\n<request>' of the next step, '', ''
--       'cancelled', '', '', '', ''
-- Returns {'accepted' | 'retry' | 'refused', jobs left to settle} for each; refused when the caller no longer holds it.
-- Fences whose outcome was accepted are kept for this hour and the next.
local done, ended_now = {}, {}
local function was_done(fence)
  local hour = math.floor(now / 1000 / DONE_KEPT_S)
  return call('HEXISTS', key('done', text(hour)), fence) == 1 or call('HEXISTS', key('done', text(hour - 1)), fence) == 1
end
local function finish(at)
  local run, fence, outcome, what, second, third, timed_out = unpack(ARGV, at, at + 6)
  local record = not ended_now[run] and held_run(run, fence)
  if not record then
    -- The answer to the caller's own earlier try was lost.
    if ended_now[run] == fence or was_done(fence) then return { 'accepted', call('SCARD', key('waiters', run)) } end
    count('late_results')
    return { 'refused', 0 }
  end
  take_from_worker(run, record)

  if outcome == 'failed' and not record.cancel then
    local max, wall = limits_of(record.wants)
    -- It ran out of the time that its first job gave it; another that joined since gives it more.
    if timed_out == '1' and tonumber(record.given) < wall then
      call('HDEL', key('run', run), 'claim', 'progress')
      enqueue(run, record)
      return { 'retry', 0 }
    end
    local attempt = call('HINCRBY', key('run', run), 'attempt', 1)
    if second == '1' and attempt < max then
      set_state(run, record, 'scheduled')
      call('HDEL', key('run', run), 'claim', 'progress')
      call('ZADD', P .. ':delayed', now + third, run)
      emit('run', run, 'scheduled')
      count('retries')
      return { 'retry', 0 }
    end
  end

  done[#done + 1] = fence
  done[#done + 1] = 1
  ended_now[run] = fence
  if outcome == 'awaits' and record.cancel then
    abandon(what)
    outcome = 'cancelled'
  end
  if outcome == 'awaits' then
    call('HDEL', key('run', run), 'claim')
    call('HSET', key('run', run), 'plan', second, 'awaits', what)
    if call('HGET', key('batch', what), 'state') == 'open' then
      set_state(run, record, 'waiting')
      call('HSET', key('batch', what), 'parent', run)
      emit('run', run, 'waiting')
    else
      enqueue(run, record) -- they have ended already
    end
    return { 'accepted', 0 }
  elseif outcome == 'succeeded' then
    call('SET', key('result', what), VERSION .. ' ' .. now_text .. '\n' .. third .. '\n' .. second, 'EX', kept_results)
    return { 'accepted', conclude(run, record, 'succeeded', what, second) }
  elseif outcome == 'cancelled' then
    return { 'accepted', conclude(run, record, 'cancelled') }
  end
  return { 'accepted', conclude(run, record, second == '1' and 'dead' or 'failed', nil, nil, what) }
end

local answers = {}
for at = 3, #ARGV, 7 do answers[#answers + 1] = isolated(finish, at) end
if #done > 0 then
  local hour = key('done', text(math.floor(now / 1000 / DONE_KEPT_S)))
  call('HSET', hour, unpack(done))
  call('EXPIRE', hour, 2 * DONE_KEPT_S)
end
flush_all()
return answers
