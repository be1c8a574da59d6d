-- Gives the next jobs that wait for a finished run its outcome. ARGV: prefix, keep, run. Returns how many still wait.
return settle(ARGV[3])
