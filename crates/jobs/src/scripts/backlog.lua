-- How many entries wait for each priority and tenant, and which is the oldest; of each priority at most CHUNK tenants, those that are
-- next. Tenants at their running cap are in no ring, so not among them.
-- ARGV: prefix, keep
-- Returns {now in ms, {priority, tenant, how many, id of the oldest (a run or a batch), ...}}
local BATCHES_LOOKED_INTO = 20
local found = {}
for p = 0, 2 do
  for _, tenant in ipairs(call('ZRANGE', P .. ':ring:' .. p, 0, CHUNK - 1)) do
    local queue = key('q', p .. ':' .. tenant)
    local waiting = call('ZCARD', queue)
    local entries = call('ZRANGE', queue, 0, BATCHES_LOOKED_INTO - 1)
    for _, entry in ipairs(entries) do
      -- A batch stands for its children that wait.
      if string.sub(entry, 1, 1) == 'b' then waiting = waiting - 1 + call('LLEN', key('pend', string.sub(entry, 2))) end
    end
    if entries[1] then
      for _, value in ipairs({ p, tenant, waiting, string.sub(entries[1], 2) }) do found[#found + 1] = value end
    end
  end
end
return { now_text, found }
