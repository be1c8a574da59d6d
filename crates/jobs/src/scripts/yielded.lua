-- What a claim needs when the entry that is next is a batch: it yields its children one after the other.

local function read_batch(batch)
  local b = call('HMGET', key('batch', batch), 'v', 'need', 'mem', 'mode', 'limits', 'kind')
  return {
    v = tonumber(b[1]), need = tonumber(b[2]), mem = tonumber(b[3]), mode = b[4], limits = b[5], plans = {},
    terms = VERSION .. ' ' .. b[6] .. ' ' .. b[2] .. ' ' .. b[3], wall = string.match(b[5], ' (%d+)'),
  }
end

-- The next child of a batch that has to be computed is started; answers whether there was one.
local function start_child(batch, about, place)
  local plans = about.plans
  for _ = 1, 50 do
    local item = call('LPOP', key('pend', batch))
    if not item then return false end
    local id, run, cache_key, plan = string.match(item, '^(%S+) (%S+) (%S+) (%S+)')
    local job = job_of(id)
    local state, seq = parse_state(job)
    local function planned()
      plans[plan] = plans[plan] or call('HGET', key('plans', batch), plan)
      return plans[plan] .. '\n' .. request_of(id, job)
    end
    if state == 'queued' then
      local flight = about.mode == 'off' and id or cache_key
      local here = call('MGET', key('flight', flight), key('result', about.mode == 'use' and cache_key or ''))
      local flying, summary = here[1], here[2] and use(cache_key, here[2])
      if flying and not summary then
        local record = run_of(flying)
        if not record or is_outdated(record) then flying = nil end
      end
      if summary then
        answer_from_cache(id, cache_key, summary, batch)
      elseif flying then
        attach(id, flying)
        join(flying, id, { place = place, limits = about.limits, plan = planned })
      else
        attach(id, run)
        call('SET', key('flight', flight), run)
        if about.mode == 'use' then count('cache_misses') end
        local record = { seq = seq, waiter = id, more = none }
        runs[run] = record
        local made_of = planned()
        set_terms(record, about.terms, string.rep('-', 32) .. flight, about.limits .. ' ' .. place, keep_apart('plan', run, made_of))
        start(run, place, record, about.terms, about, about.wall, made_of, false)
        return true
      end
    end
    taken_from_ready = taken_from_ready + 1
  end
  return true
end
