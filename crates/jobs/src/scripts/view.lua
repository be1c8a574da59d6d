-- What a client sees of a job: {its record, its run's without what it was made of or '', runs of its tenant and priority ahead of
-- it or -1, its batch's fields if it is one, 1 when the batch that it belongs to was stopped before the job was}.
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
  local stored = job_of(id)
  local state, _, run, tail = parse_state(stored)
  local about, ahead, batch, stopped = '', -1, {}, 0
  local record = run ~= '-' and run_of(run)
  if record then
    about = sub(record.text, 1, record.at - 1)
    if record.state == 'queued' then
      local place = string.match(wants_of(record), '^%S+ %S+ (%S+)')
      ahead = call('ZRANK', key('q', place), 'r' .. run) or -1
    end
  end
  -- A batch that was stopped has stopped, though its children are settled in chunks.
  if state == 'queued' and sub(tail, 1, 1) == 'b' then
    local of = job_fields(stored).batch
    if of and call('HGET', key('batch', of), 'state') == 'stopping' then stopped = 1 end
  end
  if sub(tail, -6) == ':batch' then batch = shown(key('batch', id), BATCH_SHOWN) end
  if stands_apart(stored) then stored = sub(stored, 1, -2) .. brought_back('request', id, '@') end
  return { stored, about, ahead, batch, stopped }
end
