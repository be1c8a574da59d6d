-- Reads a job with what its run knows, in one call. Changes nothing. ARGV: prefix, keep, job, tenant. Returns nil or a view.
return owner_of(ARGV[3]) == ARGV[4] and view(ARGV[3]) or false
