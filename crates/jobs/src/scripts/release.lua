-- Hands a run back unfinished: an interruption, which costs no attempt.
-- ARGV: prefix, keep, run, fence. Returns 1, or 0 when the caller had lost it.
local run = ARGV[3]
local record = held_run(run, ARGV[4])
if not record then return 0 end
take_from_worker(run, record)
call('HINCRBY', key('run', run), 'interruptions', 1)
call('HDEL', key('run', run), 'claim', 'progress')
count('interruptions')
if record.cancel then
  conclude(run, record, 'cancelled')
else
  enqueue(run, record)
  emit('run', run, 'queued')
end
flush_all()
return 1
