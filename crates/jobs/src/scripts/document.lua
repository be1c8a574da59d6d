-- Replaces a document unless somebody else replaced it meanwhile.
-- KEYS: ready (for the hash tag). ARGV: prefix, collection, name, hash expected ('' for none), new hash, new body
-- Returns 1, or 0 when the document is not the expected one.
local key = P .. ':doc:' .. ARGV[2] .. '/' .. ARGV[3]
if (redis.call('HGET', key, 'hash') or '') ~= ARGV[4] then return 0 end
redis.call('HSET', key, 'hash', ARGV[5], 'body', ARGV[6])
redis.call('SADD', P .. ':docs:' .. ARGV[2], ARGV[3])
return 1
