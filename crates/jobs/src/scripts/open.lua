-- Makes job records of the next children of a batch: those that the cache answers end at once, the others wait for
-- their turn. ARGV: prefix, keep, batch. Returns how many are left.
local batch = ARGV[3]
local about = call('HMGET', key('batch', batch), 'place', 'kind', 'mode', 'meta', 'tags', 'state')
if not about[1] then
  call('ZREM', P .. ':opening', batch)
  return 0
end
local _, tenant = split_place(about[1])
local pending, index = 0, tenant .. ':' .. about[2]
local list, tail = key('list', index .. ':queued'), 'b ' .. now_text .. ' ' .. index
local items = call('LPOP', key('items', batch), CHUNK) or {}
local seq = call('INCRBY', P .. ':seq', #items) - #items
for _, item in ipairs(items) do
  local head, request = string.match(item, '^([^\n]*)\n(.*)$')
  local id, run, cache_key, plan, campaign = string.match(head, '^(%S+) (%S+) (%S+) (%S+) ?(.*)$')
  if campaign ~= '' then try(tenant, campaign, cache_key) end
  seq = seq + 1
  local tags = about[5] ~= '' and tag(id, tenant, about[5], seq)
  put_job(id, job_text(id, 'queued', text(seq), '-', tail, line_of({ batch = batch, tags = tags or nil }), about[4], request), 'open')
  join_set(list, text(seq), id)
  call('RPUSH', key('kids', batch), id)
  local found = about[3] == 'use' and call('GET', key('result', cache_key))
  local summary = found and use(cache_key, found)
  if summary then
    answer_from_cache(id, cache_key, summary, batch)
    if campaign ~= '' then call('EXPIRE', key('trial', cache_key), kept_trials) end
  elseif call('HGET', key('batch', batch), 'state') == 'open' then
    call('RPUSH', key('pend', batch), table.concat({ id, run, cache_key, plan }, ' '))
    pending = pending + 1
  end
end
if pending > 0 then
  add(P .. ':sched', 'ready', pending)
  if not call('ZSCORE', key('q', about[1]), 'b' .. batch) then place_entry(about[1], 'b' .. batch, next_seq()) end
  for _ = 1, pending do
    if not wake() then break end
  end
end
flush_batches()
flush()
local more = call('LLEN', key('items', batch))
if more == 0 then call('ZREM', P .. ':opening', batch) end
return more
