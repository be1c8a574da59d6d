-- Hands a run back unfinished, which costs no attempt: after an interruption it is next; one that was put off is queued later.
-- ARGV: prefix, keep, run, fence, and of one that is put off for how many ms, and what it waits for (progress, JSON). Each further time
--       it is put off for as much more, up to ten times as long: many that wait for the same must not keep workers busy.
-- Returns 1, or 0 when the caller had lost it.
local run, later = ARGV[3], ARGV[5]
local record = held_run(run, ARGV[4])
if not record then return 0 end
local started = take_from_worker(run, record, true)
forget_claim(record)
if not later then
  increase(record, 'interruptions')
  count('interruptions')
end
if record.more.cancel then
  conclude(run, record, started, 'cancelled')
elseif later then
  set_state(record, 'scheduled')
  set_field(record, 'progress', ARGV[6])
  call('ZADD', P .. ':delayed', now + later * math.min(increase(record, 'put_off'), 10), run)
  emit('run', run, 'scheduled')
else
  enqueue(run, record)
  emit('run', run, 'queued')
end
flush_all()
return 1
