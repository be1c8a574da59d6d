-- What is seldom needed to accept a job: there is something that may answer it, or something rare about it.

-- The job that made the same call, if it has not ended. While one alone waits for a run, its call is in the run's record.
local function same_call(run, record, profile, hash)
  local job = record.waiter
  if job == '-' then
    job = call('HGET', key('calls', run), profile.tenant .. '/' .. hash)
  else
    local _, call_and_flight = terms_of(record)
    job = sub(call_and_flight, 1, 32) == hash and owner_of(job) == profile.tenant and job
  end
  return job and is_live(job) and job
end

-- Answers what became of the job. When it needs a run of its own: nothing, its tail, its fields, when it is to start if that is
-- later, its data and its plan.
local function accepted(at, arrival, t)
  local head, data, plan, rare, profile = ARGV[at], ARGV[at + 1], ARGV[at + 2], ARGV[at + 3], profile_of_job[at]
  local id, run, hash, cache_key = sub(head, 1, 36), sub(head, 37, 72), sub(head, 73, 104), sub(head, 109)
  local tenant = profile.tenant
  rare = rare == '' and none or cjson.decode(rare)
  if sub(head, 105, 105) == '1' and job_of(id) then return 'known' end

  local idempotent = rare.once and key('idem', tenant .. ':' .. rare.once)
  if idempotent then
    local earlier = call('HMGET', idempotent, 'job', 'of')
    if earlier[1] then
      if earlier[2] ~= rare.of then return { earlier[1], 'conflict' } end
      count('repeated')
      return { earlier[1], 'repeated' }
    end
  end
  local function remember(job)
    if idempotent then
      call('HSET', idempotent, 'job', job, 'of', rare.of)
      call('EXPIRE', idempotent, IDEMPOTENCY_KEPT_S)
    end
  end

  local flying, found = flights[flight_of_job[at]], result_of_job[at] and use(cache_key, result_of_job[at])
  if flying then
    write_new()
    local record = run_of(flying)
    if not record or (profile.mode ~= 'off' and is_outdated(record)) then flying = nil end
    local same = flying and same_call(flying, record, profile, hash)
    if same then
      count('repeated')
      remember(same)
      return same == id and 'repeated' or { same, 'repeated' }
    end
  end
  if not found and t.open >= t.most then
    count('refused_full')
    return { '', 'full' }
  end

  local flags = (rare.webhook and 'h' or '') .. (rare.deadline and 'd' or '')
  local due = rare.deadline and text(rare.deadline)
  local tail = (flags == '' and '-' or flags) .. ' ' .. profile.tail
  local more = line_of({ tags = rare.tags and tag(id, tenant, rare.tags, arrival), hook = rare.webhook, due = due })
  if rare.instead_of then note_again(rare.instead_of, id) end
  if rare.looks then look(tenant, id, rare.looks) end
  if due and not found then call('ZADD', P .. ':deadlines', due, id) end
  remember(id)
  local details, request = string.match(data, '^([^\n]*\n)(.*)$')
  data = details .. keep_apart('request', id, request)
  if profile.campaign ~= '' then try(tenant, profile.campaign, cache_key) end
  local later = rare.start_at and rare.start_at > now and text(rare.start_at)
  if not found and not flying then
    if later then call('ZADD', P .. ':delayed', later, run) end
    return nil, tail, more, later, data, keep_apart('plan', run, plan)
  end

  t.new = t.new + 1
  join_set(profile.list, arrival, id)
  put_job(id, 'queued ' .. arrival .. ' ' .. (found and '-' or flying) .. ' ' .. tail .. '\n\n\n\n' .. more .. '\n' .. data, 'open')
  if found then
    answer_from_cache(id, cache_key, found)
    if profile.campaign ~= '' then call('EXPIRE', key('trial', cache_key), kept_trials) end
    return 'cached'
  end
  t.open = t.open + 1
  join(flying, id, {
    place = profile.place, call = tenant .. '/' .. hash, limits = profile.limits, starts = later, plan = function() return plan end,
  })
  return 'joined'
end
