-- Makes a key, and ends another if it replaces one. KEYS: the key's record, the set of all ids, the mark that keys are needed, and,
-- if it replaces one, the old key's record. ARGV: id, hash, terms, most keys, when it expires and when its record goes (ms or
-- ''), when the old one expires and its record goes. Returns 'made'; 'gone' if there is no old key; 'full'.
if KEYS[4] and redis.call('EXISTS', KEYS[4]) == 0 then return 'gone' end
if redis.call('SCARD', KEYS[2]) >= tonumber(ARGV[4]) then return 'full' end
local function ends(record, expires, goes)
  if expires ~= '' then
    redis.call('HSET', record, 'expires', expires)
    redis.call('PEXPIREAT', record, goes)
  end
end
redis.call('HSET', KEYS[1], 'hash', ARGV[2], 'record', ARGV[3])
ends(KEYS[1], ARGV[5], ARGV[6])
redis.call('SADD', KEYS[2], ARGV[1])
redis.call('SET', KEYS[3], '1')
if KEYS[4] then ends(KEYS[4], ARGV[7], ARGV[8]) end
return 'made'
