-- Stops claims, or lets them go on. ARGV: prefix, keep, '1' to pause. What is running goes on in both cases.
if ARGV[3] == '1' then
  call('SET', P .. ':paused', now)
else
  call('DEL', P .. ':paused')
  while wake() do end
end
return 1
