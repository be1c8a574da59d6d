-- Stops claims, or lets them go on. ARGV: prefix, keep, '1' to pause. What is running goes on in both cases.
if ARGV[3] == '1' then
  call('SET', PAUSED, now)
else
  call('DEL', PAUSED)
  for _ = 1, call('ZCARD', IDLE) do wake() end
end
return 1
