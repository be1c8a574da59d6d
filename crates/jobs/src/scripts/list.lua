-- One page of a tenant's jobs, newest first.
-- ARGV: prefix, keep, tenant, most, before (the place of a job in all listings, '' for the start), where, states, kinds, tags (newline-separated each)
-- `where`: 'lists' merges the listings of the wanted kinds and states; 'tag' takes the listing of the first tag;
--          'running' and 'scheduled' go by the runs. The other filters are applied to what is found there.
-- Returns {next cursor or '', {id, view}, ...}. At most SCANNED jobs are looked at: a page may be short though there is more.
local tenant, most, before, where = ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5]), ARGV[6]
local function lines(text)
  local all, set = {}, {}
  for line in string.gmatch(text, '[^\n]+') do
    all[#all + 1] = line
    set[line] = true
  end
  return all, set
end
local states, wanted_states = lines(ARGV[7])
local kinds, wanted_kinds = lines(ARGV[8])
local tags = lines(ARGV[9])

local found, cut = {}, 0 -- below `cut` there may be more that was not looked at
local fetched = #tags == 0 and most + 1 or SCANNED
local function from(list)
  local max = before and '(' .. string.format('%.0f', before) or '+inf'
  local ids = call('ZREVRANGEBYSCORE', P .. ':' .. list, max, '-inf', 'WITHSCORES', 'LIMIT', 0, fetched)
  for i = 1, #ids, 2 do found[#found + 1] = { id = ids[i], seq = tonumber(ids[i + 1]) } end
  if #ids == 2 * fetched then cut = math.max(cut, tonumber(ids[#ids])) end
end
local function from_runs(set)
  for _, run in ipairs(call('ZRANGE', set, 0, SCANNED - 1)) do
    local record = run_of(run)
    local one = record and record.waiter ~= '-' and record.waiter
    for _, id in ipairs(one and { one } or call('SRANDMEMBER', key('waiters', run), 100)) do
      local _, seq = parse_state(job_of(id))
      seq = tonumber(seq)
      if seq and (not before or seq < before) then found[#found + 1] = { id = id, seq = seq } end
    end
  end
end
if where == 'running' then
  from_runs(P .. ':leases')
elseif where == 'scheduled' then
  from_runs(P .. ':delayed')
elseif where == 'tag' then
  from('list:' .. tenant .. ':' .. tags[1])
else
  local stored = {}
  for _, state in ipairs(states) do stored[(state == 'running' or state == 'scheduled') and 'queued' or state] = true end
  for _, kind in ipairs(kinds) do
    for state in pairs(stored) do from('list:' .. tenant .. ':' .. kind .. ':' .. state) end
    -- Its run waits, the job is stored as queued.
    if stored.waiting and not stored.queued and kind ~= 'backtest' and kind ~= 'batch' then
      from('list:' .. tenant .. ':' .. kind .. ':queued')
    end
  end
end
table.sort(found, function(a, b) return a.seq > b.seq end)

-- The state that a client sees: that of the run for a job that has not ended.
local function state_of(stored, run)
  if stored ~= 'queued' or run == '-' then return stored end
  local record = run_of(run)
  if not record then return stored end
  return record.state == 'finished' and 'running' or record.state
end
local page, last = {}, nil
for looked, job in ipairs(found) do
  if looked > SCANNED or job.seq < cut then break end
  last = job
  local record = job_of(job.id)
  if record then
    local state, _, run, tail = parse_state(record)
    local owner, kind = split_index(index_of(tail))
    local fits = owner == tenant and wanted_kinds[kind]
    local own = tags[1] and '\30' .. (job_fields(record).tags or '') .. '\30'
    for _, tag in ipairs(tags) do fits = fits and find(own, '\30' .. tag .. '\30', 1, true) end
    if fits and wanted_states[state_of(state, run)] then
      page[#page + 1] = { job.id, view(job.id) }
      if #page == most then break end
    end
  end
end
local all_seen = cut == 0 and (not last or last == found[#found])
return { all_seen and '' or string.format('%.0f', last.seq), page }
