-- Hands a run back unfinished: an interruption, which costs no attempt.
-- ARGV: prefix, keep, run, fence. Returns 1, or 0 when the caller had lost it.
local run = ARGV[3]
local record = held_run(run, ARGV[4])
if not record then return 0 end
local claim = claim_of(record)
take_from_worker(run, claim)
increase(record, 'interruptions')
forget_claim(record)
count('interruptions')
if record.more.cancel then
  conclude(run, record, claim, 'cancelled')
else
  enqueue(run, record)
  emit('run', run, 'queued')
end
flush_all()
return 1
