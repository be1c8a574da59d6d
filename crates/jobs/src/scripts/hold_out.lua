-- Holds series out of a tenant's research, each once and for all, and notes which of them bind a campaign.
-- ARGV: prefix, keep, tenant, campaign, and for each series 2 of: its name, and how it is to be held out if it is not yet (JSON), or ''.
-- Returns for each how it is held out, or ''.
local vault, bound = key('vault', ARGV[3]), key('campaign', ARGV[3] .. ':' .. ARGV[4])
local answers = {}
for at = 5, #ARGV, 2 do
  local series, proposed = ARGV[at], ARGV[at + 1]
  if proposed ~= '' then call('HSETNX', vault, series, proposed) end
  local held_out = call('HGET', vault, series)
  if held_out then call('HSET', bound, 'on:' .. series, 1) end
  answers[#answers + 1] = held_out or ''
end
call('EXPIRE', vault, kept_trials)
call('EXPIRE', bound, kept_trials)
return answers
