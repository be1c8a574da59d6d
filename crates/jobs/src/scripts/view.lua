-- What a client sees of a job: {its fields, its run's fields, runs of its tenant and priority ahead of it or -1, its
-- batch's fields if it is one}.
local RUN_SHOWN = { 'state', 'attempt', 'stalls', 'interruptions', 'progress', 'claim', 'awaits' }
local BATCH_SHOWN = { 'state', 'total', 'succeeded', 'failed', 'cancelled', 'dead', 'expired', 'cached' }

local function shown(record, names)
  local values, fields = call('HMGET', record, unpack(names)), {}
  for i, name in ipairs(names) do
    if values[i] then
      fields[#fields + 1] = name
      fields[#fields + 1] = values[i]
    end
  end
  return fields
end

local function view(id)
  local job = call('HGETALL', key('job', id))
  local at = call('HMGET', key('job', id), 'state', 'batch')
  local state, _, run_id = string.match(at[1], '^(%S+) (%S+) (%S+)')
  local run, ahead, batch = {}, -1, {}
  if run_id ~= '-' then
    run = shown(key('run', run_id), RUN_SHOWN)
    local terms = call('HGET', key('run', run_id), 'terms')
    if terms then ahead = call('ZRANK', key('q', string.match(terms, '\n[^\n]*\n[^\n]*\n([^\n]+)')), 'r' .. run_id) or -1 end
  end
  -- A batch that was stopped has stopped, though its children are settled in chunks.
  if at[2] and state == 'queued' and call('HGET', key('batch', at[2]), 'state') == 'stopping' then
    run = { 'state', 'stopping -' }
  end
  if string.match(at[1], ':batch$') then batch = shown(key('batch', id), BATCH_SHOWN) end
  return { job, run, ahead, batch }
end
