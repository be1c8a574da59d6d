-- The ledger: which results each campaign of a tenant has asked for. Written when a job is accepted, whatever becomes of it, so
-- that what is cached, joined, failed or cancelled is counted too, and outlives the job.
local tried = {} -- by '<tenant>:<campaign>': score and member, one after the other

-- In one campaign, or in several with the byte 30 between them.
local function try(tenant, campaigns, cache_key)
  for campaign in string.gmatch(campaigns, '[^\30]+') do
    local name = tenant .. ':' .. campaign
    local t = tried[name] or { tenant = tenant, campaign = campaign }
    tried[name] = t
    t[#t + 1] = now_text
    t[#t + 1] = cache_key
  end
end

-- A job looks at days that are held out: `looks` has their series, and what else is known of it.
local function look(tenant, job, looks)
  for _, series in ipairs(looks.series) do
    local log = key('looks', tenant .. ':' .. series)
    call('LPUSH', log, now_text .. ' ' .. job .. ' ' .. looks.about)
    call('LTRIM', log, 0, LOOKS_MOST - 1)
    call('EXPIRE', log, kept_trials)
  end
end

write_trials = function()
  for name, t in pairs(tried) do
    local set, beyond = key('tried', name), key('campaign', name)
    call('ZADD', set, 'NX', unpack(t))
    -- The first ones of a campaign that has grown too long are counted, and known no more.
    local over = call('ZCARD', set) - TRIALS_MOST
    if over > 0 then
      call('ZREMRANGEBYRANK', set, 0, over - 1)
      call('HINCRBY', beyond, 'beyond', over)
    end
    call('EXPIRE', beyond, kept_trials)
    call('EXPIRE', set, kept_trials)
    call('EXPIRE', key('vault', t.tenant), kept_trials)
    local known = key('campaigns', t.tenant)
    call('ZADD', known, now_text, t.campaign)
    call('ZREMRANGEBYSCORE', known, '-inf', now - kept_trials * 1000)
    call('ZREMRANGEBYRANK', known, 0, -CAMPAIGNS_MOST - 1)
    call('EXPIRE', known, kept_trials)
  end
  tried = {}
end
