-- Hands a run back unfinished: an interruption, which costs no attempt.
-- ARGV: prefix, keep, run, fence. Returns 1, or 0 when the caller had lost it.
local run = ARGV[3]
local record = held_run(run, ARGV[4])
if not record then return 0 end
local started = take_from_worker(run, record)
increase(record, 'interruptions')
forget_claim(record)
count('interruptions')
if record.more.cancel then
  conclude(run, record, started, 'cancelled')
else
  enqueue(run, record)
  emit('run', run, 'queued')
end
flush_all()
return 1
