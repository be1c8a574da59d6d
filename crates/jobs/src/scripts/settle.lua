-- Gives the next jobs that wait for a finished run its outcome. ARGV: prefix, keep, run. Returns how many still wait.
local left_to_settle = settle(ARGV[3])
flush_all()
return left_to_settle
