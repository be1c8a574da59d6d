-- Sets a tenant's weight and caps. ARGV: prefix, keep, tenant, weight, most running ('' for no cap), most open ('' for
-- the deployment's).
local tenant, record = ARGV[3], key('tenant', ARGV[3])
call('HSET', record, 'weight', ARGV[4])
for i, name in ipairs({ 'max_running', 'max_queued' }) do
  if ARGV[4 + i] == '' then call('HDEL', record, name) else call('HSET', record, name, ARGV[4 + i]) end
end
for p = 0, 2 do unlink(tostring(p), tenant) end
relink(tenant)
wake()
return 1
