-- Records how far a run is. ARGV: prefix, keep, run, fence, progress (JSON). Returns 1, or 0 when the caller lost it.
local record = run_of(ARGV[3])
if not record or record.state ~= 'running' or not is_claimed_by(record, ARGV[4]) then return 0 end
set_field(record, 'progress', ARGV[5])
emit('run', ARGV[3], 'running')
flush()
return 1
