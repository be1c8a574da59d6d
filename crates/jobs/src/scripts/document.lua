-- Replaces a document, or removes it, unless somebody else replaced it meanwhile.
-- ARGV: what all names begin with, collection, name, hash expected ('' for none), new hash ('' to remove it), new body
-- Returns 1, or 0 when the document is not the expected one.
local P, call = ARGV[1], redis.call
local record = P .. ':doc:' .. ARGV[2] .. '/' .. ARGV[3]
if (call('HGET', record, 'hash') or '') ~= ARGV[4] then return 0 end
if ARGV[5] == '' then
  call('DEL', record)
  call('SREM', P .. ':docs:' .. ARGV[2], ARGV[3])
  return 1
end
call('HSET', record, 'hash', ARGV[5], 'body', ARGV[6])
call('SADD', P .. ':docs:' .. ARGV[2], ARGV[3])
return 1
