-- One page of a tenant's jobs, newest first.
-- ARGV: prefix, keep, tenant, most, before (a job id, '' for the start), where, states, kinds, tags (newline-separated each)
-- `where`: 'lists' merges the listings of the wanted kinds and states; 'tag' takes the listing of the first tag;
--          'running' and 'scheduled' go by the runs. The other filters are applied to what is found there.
-- Returns {next cursor or '', {id, view}, ...}. At most SCANNED jobs are looked at: a page may be short though there is more.
local tenant, most, before, where = ARGV[3], tonumber(ARGV[4]), ARGV[5], ARGV[6]
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

local found, cut = {}, '' -- below `cut` there may be more that was not looked at
local fetched = #tags == 0 and most + 1 or SCANNED
local function from(list)
  local ids = call('ZREVRANGEBYLEX', P .. ':' .. list, before == '' and '+' or '(' .. before, '-', 'LIMIT', 0, fetched)
  for _, id in ipairs(ids) do found[#found + 1] = id end
  if #ids == fetched and ids[#ids] > cut then cut = ids[#ids] end
end
local function from_runs(set)
  for _, run in ipairs(call('ZRANGE', set, 0, SCANNED - 1)) do
    local one = call('HGET', key('run', run), 'job')
    for _, id in ipairs(one and { one } or call('SRANDMEMBER', key('waiters', run), 100)) do
      if before == '' or id < before then found[#found + 1] = id end
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
  end
end
table.sort(found, function(a, b) return a > b end)

-- The state that a client sees: that of the run for a job that has not ended.
local function state_of(stored, run)
  if stored ~= 'queued' or not run or run == '' then return stored end
  local state = call('HGET', key('run', run), 'state')
  return (state == 'finished' and 'running') or state or stored
end
local page, last = {}, nil
for looked, id in ipairs(found) do
  if looked > SCANNED or id < cut then break end
  last = id
  local job = call('HMGET', key('job', id), 'state', 'index', 'tags', 'run')
  if job[1] then
    local owner, kind = string.match(job[2], '^(.*):(.*)$')
    local fits = owner == tenant and wanted_kinds[kind]
    local own = '\n' .. (job[3] or '') .. '\n'
    for _, tag in ipairs(tags) do fits = fits and string.find(own, '\n' .. tag .. '\n', 1, true) end
    if fits and wanted_states[state_of(job[1], job[4])] then
      page[#page + 1] = { id, view(id) }
      if #page == most then break end
    end
  end
end
local all_seen = cut == '' and (not last or last == found[#found])
return { all_seen and '' or last, page }
