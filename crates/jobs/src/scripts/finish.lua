-- Takes the outcomes of runs from the worker that holds them, and settles the first of their jobs.
-- ARGV: prefix, keep, and for each run 8 of: run, fence, then
--       'succeeded', result id, summary (JSON), receipt (JSON, one line), '<bytes of the stored body>\31<facet>\31...\31'; the
--           body is in the file that has the fence's name ('' from an older worker, whose body has another),
--           '<names of the result, with spaces>\n<its returns>' or ''
--       'failed', error (JSON), '1' if worth another attempt, back-off in ms, '1' on a time-out, ''
--       'awaits', a batch, '<plan>\n<request>' of the next step, '', '', ''
--       'cancelled', '', '', '', '', ''
-- Returns {'accepted' | 'retry' | 'refused', jobs left to settle} for each; refused when the caller no longer holds it.
-- Fences whose outcome was accepted are kept for this hour and the next, but for those that a stored result names.
local done, ended_now = {}, {}
local ACCEPTED, RETRY = { 'accepted', 0 }, { 'retry', 0 }
local function was_done(fence)
  local hour = math.floor(now / 1000 / DONE_KEPT_S)
  return call('HEXISTS', key('done', text(hour)), fence) == 1 or call('HEXISTS', key('done', text(hour - 1)), fence) == 1
end
local function was_stored(fence, id)
  local stored = call('GET', key('result', id))
  local head = stored and head_of(stored)
  return head and head.file == fence
end

-- Places in `cached` of the results that this call is about, as far as they were read.
local places, stored_bytes = {}, 0
local function cached_place(id)
  if places[id] == nil then places[id] = call('ZSCORE', CACHED, id) end
  return places[id]
end

-- Whether an invalidation since then means a result with these facets. Nearly always there was none.
local last_invalidation
local function invalidated_since(then_ms, facets)
  last_invalidation = last_invalidation or tonumber(call('ZRANGE', P .. ':purges', -1, -1, 'WITHSCORES')[2] or 0)
  if last_invalidation < tonumber(then_ms) then return false end
  for _, selector in ipairs(call('ZRANGEBYSCORE', P .. ':purges', then_ms, '+inf')) do
    if means(selector, facets) then return true end
  end
  return false
end

-- Stores a result in the place of an earlier one. Answers its id: one that was invalidated while it was computed has its
-- run's, where only the jobs find it that waited for it.
local function store(run, record, fence, started, by, id, summary, receipt, about)
  if about == '' then
    call('SET', key('result', id), VERSION .. ' ' .. now_text .. '\n' .. receipt .. '\n' .. summary, 'EX', kept_results)
    return id
  end
  local size = find(about, '\31', 1, true) or #about + 1
  local facets = sub(about, size) .. 'tenant=' .. sub(by, 3) .. '\31'
  if record.more.stale or invalidated_since(started, facets) then id = run end
  local units = math.min(math.ceil((sub(about, 1, size - 1) + #summary + #receipt) / UNIT), UNITS - 1)
  local before = cached_place(id)
  if before then
    local stored = call('GET', key('result', id))
    local head = stored and head_of(stored)
    if head then discard(head.file) end
    stored_bytes = stored_bytes - (before % UNITS) * UNIT
  end
  call('SET', key('result', id), VERSION .. ' ' .. now_text .. ' ' .. text(units) .. ' ' .. fence .. facets .. '\n'
    .. receipt .. '\n' .. summary, 'EX', kept_results)
  places[id] = place_of(units)
  join_set(CACHED, places[id], id)
  stored_bytes = stored_bytes + units * UNIT
  return id
end

-- The returns outlive the result and the jobs: the ledger's figures are made of them. They stand under the key that was asked
-- for and the one that was really run, and for the time of the jobs under a result of the run's own.
local function keep_trial(id, trial)
  local names, returns = string.match(trial, '^([^\n]*)\n(.*)$')
  local own = true
  for name in string.gmatch(names, '%S+') do
    call('SET', key('trial', name), returns, 'EX', kept_trials)
    own = own and name ~= id
  end
  if own then call('SET', key('trial', id), returns, 'EX', kept_jobs) end
end

local function finish(at)
  local run, fence, outcome, what, second, third, timed_out, trial = unpack(ARGV, at, at + 7)
  local record = not ended_now[run] and held_run(run, fence)
  if not record then
    -- The answer to the caller's own earlier try was lost.
    local stored = outcome == 'succeeded' and timed_out ~= ''
    if ended_now[run] == fence or was_done(fence) or (stored and (was_stored(fence, what) or was_stored(fence, run))) then
      return { 'accepted', call('SCARD', key('waiters', run)) }
    end
    if stored then discard(fence) end
    count('late_results')
    return { 'refused', 0 }
  end
  local started, by = take_from_worker(run, record)

  if outcome == 'failed' and not record.more.cancel then
    local max, wall = limits_of(wants_of(record))
    -- It ran out of the time that its first job gave it; another that joined since gives it more.
    if timed_out == '1' and given_and_worker(record) < wall then
      forget_claim(record)
      enqueue(run, record)
      return RETRY
    end
    local attempt = increase(record, 'attempt')
    if second == '1' and attempt < max then
      set_state(record, 'scheduled')
      forget_claim(record)
      call('ZADD', P .. ':delayed', now + third, run)
      emit('run', run, 'scheduled')
      count('retries')
      return RETRY
    end
  end

  ended_now[run] = fence
  if outcome ~= 'succeeded' or timed_out == '' then
    done[#done + 1] = fence
    done[#done + 1] = 1
  end
  if outcome == 'awaits' and record.more.cancel then
    abandon(what)
    outcome = 'cancelled'
  end
  if outcome == 'awaits' then
    record.claim = ''
    set_plan(run, record, second)
    set_field(record, 'awaits', what)
    if call('HGET', key('batch', what), 'state') == 'open' then
      set_state(record, 'waiting')
      call('HSET', key('batch', what), 'parent', run)
      emit('run', run, 'waiting')
    else
      enqueue(run, record) -- they have ended already
    end
    return ACCEPTED
  end
  local left
  if outcome == 'succeeded' then
    local id = store(run, record, fence, started, by, what, second, third, timed_out)
    if trial ~= '' then keep_trial(id, trial) end
    left = conclude(run, record, started, 'succeeded', id, second)
  elseif outcome == 'cancelled' then
    left = conclude(run, record, started, 'cancelled')
  else
    left = conclude(run, record, started, second == '1' and 'dead' or 'failed', nil, nil, what)
  end
  return left == 0 and ACCEPTED or { 'accepted', left }
end

-- What is there for all of them is read at once.
do
  local ids, waiting, found = {}, {}, {}
  for at = 3, #ARGV, 8 do
    ids[#ids + 1] = ARGV[at]
    if ARGV[at + 2] == 'succeeded' then found[#found + 1] = ARGV[at + 3] end
  end
  read_runs(ids)
  for i = 1, #ids do
    local record = runs[ids[i]]
    if record and record.waiter ~= '-' then waiting[#waiting + 1] = record.waiter end
  end
  read_jobs(waiting)
  local there = found[1] and call('ZMSCORE', CACHED, unpack(found))
  for i, id in ipairs(found) do places[id] = there[i] end
end

local answers = {}
for at = 3, #ARGV, 8 do answers[(at + 5) / 8] = isolated(finish, at) end
if #done > 0 then
  local hour = key('done', text(math.floor(now / 1000 / DONE_KEPT_S)))
  call('HSET', hour, unpack(done))
  call('EXPIRE', hour, 2 * DONE_KEPT_S)
end
add(P .. ':cache', 'bytes', stored_bytes)
flush_all()
return answers
