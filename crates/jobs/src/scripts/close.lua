-- Cancels the next children of a stopped batch. ARGV: prefix, keep, batch. Returns how many are left to look at.
local batch = ARGV[3]
local about = call('HMGET', key('batch', batch), 'state', 'total', 'closed')
if about[1] ~= 'stopping' then
  call('ZREM', P .. ':closing', batch)
  return 0
end
local closed = tonumber(about[3] or 0)
local kids = call('LRANGE', key('kids', batch), closed, closed + CHUNK - 1)
call('HSET', key('batch', batch), 'closed', closed + #kids) -- first, as the last child ends the batch
read_jobs(kids)
for _, id in ipairs(kids) do
  if is_live(id) then withdraw(id, 'cancelled') end
end
flush_all()
return about[2] - closed - #kids
