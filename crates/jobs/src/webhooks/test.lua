-- Makes a delivery that only tries an endpoint out. ARGV: prefix, keep, tenant, endpoint, message, ms that it is kept, width
-- Returns its id, or nil when the tenant has no such endpoint.
if call('HGET', record_of(ARGV[4]), 'tenant') ~= ARGV[3] then return false end
local event = { tenant = ARGV[3], message = ARGV[5], event = 'webhook.test', at = now_text }
local id = deliver({ endpoint = ARGV[4], lane = ARGV[4] }, event, tonumber(ARGV[6]))
touch(ARGV[4], tonumber(ARGV[7]))
nudge()
return id
