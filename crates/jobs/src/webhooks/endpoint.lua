-- Changes one endpoint. ARGV: prefix, keep, what, tenant, endpoint, then
--   create: most endpoints of a tenant, secret, field, value, ...
--   change: field, value, ... ('enabled' is '1' or '0')
--   delete: nothing
--   rotate: new secret, how long the old one is valid (ms), most old ones
--   ensure: secret; for the URLs that single jobs name, whose record is made when it is first needed
-- Returns 'done', 'missing' when the tenant has no such endpoint, or 'full'.
local what, tenant, id = ARGV[3], ARGV[4], ARGV[5]
local record = record_of(id)

local function set_from(first)
  for i = first, #ARGV, 2 do call('HSET', record, ARGV[i], ARGV[i + 1]) end
end

if what == 'create' then
  if call('EXISTS', record) == 1 then return 'done' end -- the answer to an earlier try was lost
  if call('SCARD', key('hooks', tenant)) >= tonumber(ARGV[6]) then return 'full' end
  call('HSET', record, 'tenant', tenant, 'secret', ARGV[7], 'enabled', 1, 'created', now_text)
  set_from(8)
  call('SADD', key('hooks', tenant), id)
  refresh_listener(tenant)
  return 'done'
end
if what == 'ensure' then
  call('HSETNX', record, 'secret', ARGV[6])
  call('HSETNX', record, 'created', now_text)
  call('HSET', record, 'tenant', tenant, 'enabled', 1)
  return 'done'
end
if call('HGET', record, 'tenant') ~= tenant then return 'missing' end

if what == 'change' then
  set_from(6)
  if call('HGET', record, 'enabled') == '1' then
    call('HDEL', record, 'why', 'disabled')
    if call('HDEL', lane_key(id), 'off') == 1 then call('HDEL', lane_key(id), 'failures', 'since', 'hold') end
  else
    call('HSETNX', record, 'why', 'asked')
    call('HSETNX', record, 'disabled', now_text)
    call('HSET', lane_key(id), 'off', 1)
    call('PERSIST', lane_key(id))
  end
  refresh_listener(tenant)
  touch(id, 1)
  nudge()
elseif what == 'rotate' then
  local found = call('HMGET', record, 'secret', 'old')
  local old, number = { text(now + tonumber(ARGV[7])) .. ' ' .. found[1] }, 1
  for line in string.gmatch(found[2] or '', '[^\n]+') do
    if number < tonumber(ARGV[8]) and tonumber(string.match(line, '^%d+')) > now then
      number = number + 1
      old[number] = line
    end
  end
  call('HSET', record, 'secret', ARGV[6], 'old', table.concat(old, '\n'))
elseif what == 'delete' then
  call('SREM', key('hooks', tenant), id)
  -- Its deliveries expire by themselves.
  call('UNLINK', record, lane_key(id), due_key(id), flying_key(id), key('log', id), key('undelivered', id))
  call('ZREM', P .. ':lanes', id)
  refresh_listener(tenant)
end
return 'done'
